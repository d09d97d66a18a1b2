"""JSON records in one text, told apart without being read: each keeps the bytes that came, whatever is wrong in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

_BLANK: Final = " \t\n\r"
_DECODER: Final = json.JSONDecoder()


def texts_in(body: bytes) -> list[bytes]:
    """Return the records of a body: the elements of an array, one value over any lines, or one value on each line.

    Raises ValueError for an array whose elements cannot be told apart.
    """
    if not body.lstrip().startswith(b"["):
        return [body] if _is_one(body) else lines_in(body)
    try:
        return [text.encode() for text in _elements(body.decode())]
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def lines_in(body: bytes) -> list[bytes]:
    """Return the lines of a body that are not blank."""
    # JSON ends no line where Python does: a text may hold other separators as they are.
    return [line for line in body.split(b"\n") if line.strip()]


def _is_one(body: bytes) -> bool:
    try:
        text = body.decode()
        _, end = _DECODER.raw_decode(text, _behind_blanks(text, 0))
    except (ValueError, RecursionError):
        return False
    return _behind_blanks(text, end) == len(text)


def _elements(text: str) -> Iterator[str]:
    at = _behind_blanks(text, text.index("[") + 1)
    while text[at : at + 1] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield text[at:end]
        at = _behind_blanks(text, end)
        if text[at : at + 1] == ",":
            at = _behind_blanks(text, at + 1)
            if text[at : at + 1] == "]":
                raise ValueError(f"expected a value behind the comma, got the end of the array at character {at}")
        elif text[at : at + 1] != "]":
            raise ValueError(f"expected a comma or the end of the array at character {at}")
    if _behind_blanks(text, at + 1) != len(text):
        raise ValueError(f"expected nothing behind the array, got more at character {at + 1}")


def _behind_blanks(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _BLANK:
        at += 1
    return at
