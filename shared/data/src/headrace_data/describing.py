"""Values of JSON in messages."""

from __future__ import annotations

import json
from typing import Final

_SHOWN: Final = 40


def describe(value: object) -> str:
    """Return a JSON value in a few words, for messages."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
