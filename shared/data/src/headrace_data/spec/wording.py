"""How pydantic's errors are worded for people."""

from __future__ import annotations

from typing import Any, Final

UNKNOWN: Final = "unknown key"


def expected(error: Any) -> str:
    """Return what one of pydantic's errors expected."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "union_tag_not_found":
        return "expected a kind beside it"
    if error["type"] == "extra_forbidden":
        return UNKNOWN
    message = str(error["msg"])
    return message.replace("Input should be ", "expected ", 1).replace("Decimal input should", "expected to", 1)
