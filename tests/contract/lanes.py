"""Records of a lane, and how what became of them is told."""

from __future__ import annotations

from typing import Any


def sound(start: int, stop: int, digits: int = 3) -> list[dict[str, Any]]:
    """Return records that nothing is wrong with, with these keys."""
    return [
        {"key": key, "value": [0.5, key % 7 / 7], "depth": 1.0, "digit": key % digits} for key in range(start, stop)
    ]


def keys(rows: list[dict[str, Any]]) -> list[int]:
    """Return the keys of rows."""
    return [row["key"] for row in rows]


def ranges(items: Any) -> list[tuple[int, int, int]]:
    """Return ranges of offsets as plain values."""
    return [(item.partition, item.start, item.end) for item in items]
