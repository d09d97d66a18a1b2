"""Cells of CSV, which say nothing of their type."""

from __future__ import annotations

from typing import Any, Final

import orjson

LONGEST_ROW: Final = 4 * 2**20
"""Most bytes of a row's text, and of a value in it."""


def cell_value(cell: str, *, is_text: bool) -> Any:
    """Return the value of a cell: null of an empty one; where no text is wanted, a number, a boolean or a list."""
    if not cell:
        return None
    if is_text:
        return cell
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return {"true": True, "false": False}.get(cell.lower(), cell)
