"""What the beginning of a prediction's id tells: it is a UUIDv7 (RFC 9562), whose first 48 bits are milliseconds."""

from datetime import UTC, datetime

LENGTH = 36
_HEX = "0123456789abcdef"
_ALLOWED = tuple({"h": _HEX, "v": "89ab"}.get(place, place) for place in "hhhhhhhh-hhhh-7hhh-vhhh-hhhhhhhhhhhh")
_SHORTEST = 8
"""Characters of the shortest beginning that is searched for: it leaves about a minute to look through."""
_TIME_DIGITS = 12


def window_ms(beginning: str) -> tuple[int, int] | None:
    """Return the first and the last millisecond, since 1970, in which ids with this beginning are made.

    None when no prediction's id begins so, or the beginning is too short to search for.
    """
    if not _SHORTEST <= len(beginning) <= LENGTH:
        return None
    if any(letter not in allowed for letter, allowed in zip(beginning, _ALLOWED, strict=False)):
        return None
    digits = beginning.replace("-", "")[:_TIME_DIGITS]
    return int(digits.ljust(_TIME_DIGITS, "0"), 16), int(digits.ljust(_TIME_DIGITS, "f"), 16)


def made_at(prediction_id: str) -> datetime | None:
    """Return when an id was made, None when it is no UUIDv7."""
    window = window_ms(prediction_id)
    return datetime.fromtimestamp(window[0] / 1000, UTC) if window and len(prediction_id) == LENGTH else None
