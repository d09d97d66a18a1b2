"""What the pipeline's schema says of a record, as those check it who have no schema. Imports nothing."""

from typing import Any


def valid(record: dict[str, Any]) -> bool:
    """Return whether a record is one of those that ingestion accepts."""
    pixels = record["pixels"]
    return (
        isinstance(record["id"], str)
        and isinstance(record["digit"], int)
        and 0 <= record["digit"] <= 9
        and len(pixels) == 8
        and all(len(row) == 8 and min(row) >= 0 and max(row) <= 16 for row in pixels)
    )
