"""JSON Lines: many records in one message, each on a line of its own.

A record of such a message is told by the message's place and the number of its line, from 0. Blank lines are none, and
count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headrace_data.formats.decoding import Decoded, Decoder
from headrace_data.rejections import Rejection

RULE: Final = "lines"
MOST_LINES: Final = 10_000
"""Lines of a message; one with more is rejected as a whole."""


def lines_of(value: bytes | None) -> list[tuple[int, bytes | None]]:
    """Return the records of a message with their numbers; the message itself where it has none, or too many."""
    if value is None or _count(value) > MOST_LINES:
        return [(0, value)]
    # JSON ends no line where bytes do otherwise: a carriage return is white space to it.
    found: list[tuple[int, bytes | None]] = [
        (number, line) for number, line in enumerate(value.split(b"\n")) if line.strip()
    ]
    return found or [(0, value)]


def _count(value: bytes) -> int:
    """Return how many lines a message has, blank ones too; the last may end without a sign of that."""
    return value.count(b"\n") + (not value.endswith(b"\n"))


def line_of(value: bytes | None, number: int) -> bytes | None:
    """Return the line of a message with a number; None where there is none."""
    return dict(lines_of(value)).get(number)


class LinesDecoder:
    """Reads the lines of messages by another decoder, and rejects messages with too many of them."""

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return a row for each line: see `Decoder`."""
        found: list[Rejection] = []
        rows, positions = self._inner.decode(values, start, found)
        rejected += [self._told(each, values[each.position - start]) for each in found]
        return rows, positions

    @staticmethod
    def _told(fault: Rejection, value: bytes | None) -> Rejection:
        count = _count(value or b"")
        if count <= MOST_LINES:
            return fault
        return Rejection(fault.position, RULE, "", f"expected at most {MOST_LINES} lines in a message, got {count}")
