"""Durations on the command line: `90s`, `5m`, `1h30m`, `30d`."""

from __future__ import annotations

import re

import typer

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(text: str, option: str = "--timeout") -> float:
    """Return a duration in seconds; raise typer's BadParameter when it is not one."""
    parts = _PART.findall(text)
    total = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise typer.BadParameter(f"expected a duration such as 90s, 5m or 1h30m, got '{text}'", param_hint=option)
    return total
