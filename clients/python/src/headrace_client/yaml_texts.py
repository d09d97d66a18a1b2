"""Plain values as YAML within a line."""

from __future__ import annotations

import json
import re
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_WORDS: Final = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


def scalar(text: str) -> str:
    """Return a text as YAML: as it is where it can only be read as that text, else in quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # JSON writes a letter beyond 16 bits as two halves, which YAML does not put together.
    return '"' + "".join(json.dumps(one)[1:-1] if ord(one) < 2**16 else f"\\U{ord(one):08X}" for one in text) + '"'


def flow(value: object) -> str:
    """Return a plain value as YAML within a line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    return scalar(value) if isinstance(value, str) else json.dumps(value)
