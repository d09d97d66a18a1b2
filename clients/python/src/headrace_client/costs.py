"""What versions took to train, of machines and of the privacy of rows, as texts."""

from __future__ import annotations

import math

from headrace_client.views import View

_CENTS = 2


def cost_text(version: View) -> str:
    """Return what a version cost to train, such as "0.034 EUR"; empty where the trainer had no prices."""
    cost = version.get("cost")
    if cost is None:
        return ""
    # Two digits at least, of what is less than one as well: most versions cost less than a cent.
    digits = _CENTS if not 0 < cost < 1 else _CENTS - 1 - math.floor(math.log10(cost))
    return f"{cost:,.{digits}f} {version.get('currency') or ''}".rstrip()


def cpu_text(version: View) -> str:
    """Return the processor time that a version took to train; empty where that was not measured."""
    return f"{version['cpu_s']:.3g} s" if version.get("cpu_s") else ""


def privacy_text(version: View) -> str:
    """Return what a version spent of the privacy of a row, such as "epsilon 2.99, delta 1e-05"; empty without any."""
    spent = version.get("privacy")
    return f"epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.3g}" if spent else ""


def taken_by(versions: list[View]) -> tuple[str, list[str]]:
    """Return the title of a column, and what each version took: money where any tells it, else processor time."""
    for title, told in (("cost", cost_text), ("CPU", cpu_text)):
        if any(taken := [told(version) for version in versions]):
            return title, taken
    return "", [""] * len(versions)
