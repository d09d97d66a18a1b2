"""Text: a message is one text in UTF-8, and a row of one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from headrace_data.formats.decoding import Decoded, Undecodable, decode_each
from headrace_data.rejections import Rejection

RULE: Final = "text"


class TextDecoder:
    """Reads texts."""

    def __init__(self, field: str) -> None:
        """`field` is what the text is called in a row."""
        self._field = field

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return a row for each text: see `Decoder`."""
        return decode_each(RULE, "a text in UTF-8", self._one, values, start, rejected)

    def _one(self, value: bytes) -> dict[str, Any]:
        return {self._field: text_of(value)}


def text_of(value: bytes) -> str:
    """Return a text in UTF-8. Raises Undecodable."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(f"expected a text in UTF-8, got {error.reason} at byte {error.start}") from error
