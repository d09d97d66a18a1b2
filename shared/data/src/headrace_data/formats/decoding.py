"""What every format does: bytes in, rows of JSON-like values out, and why some are none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, runtime_checkable

from headrace_data.rejections import Rejection

Decoded = tuple[list[dict[str, Any]], Sequence[int]]
"""Rows in the order they came, and the position of each."""


class Decoder(Protocol):
    """Reads the values of messages as one format. Holds nothing of them."""

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return the rows among some values, with their positions from `start` on; add the others to `rejected`.

        A row has what JSON has: texts, numbers, booleans, None, lists and dictionaries by text; and arrays of floats,
        where fields take them. None is a message without a value. Whatever the bytes are, nothing but the error of a
        schema's source is raised.
        """


@runtime_checkable
class KnowsWriters(Protocol):
    """A decoder of values that are written with schemas."""

    def writers(self, values: Sequence[bytes | None]) -> Collection[str]:
        """Return the digests of the schemas that values are written with which were decoded, as far as it met them."""


class Undecodable(ValueError):
    """One value is none of its format."""

    def __init__(self, reason: str, rule: str = "", field: str = "") -> None:
        super().__init__(reason)
        self.rule = rule
        """The rule that it breaks, where that is not the format itself."""
        self.field = field


def decode_each(
    kind: str,
    expected: str,
    one: Callable[[bytes], dict[str, Any]],
    values: Sequence[bytes | None],
    start: int,
    rejected: list[Rejection],
    *,
    takes_none: bool = False,
) -> Decoded:
    """Decode values one by one, empty ones too where it `takes_none`.

    `one` raises Undecodable; `expected` says what should have come.
    """
    records: list[dict[str, Any]] = []
    positions: list[int] = []
    for position, value in enumerate(values, start):
        if value is None or not (value or takes_none):
            got = "no value" if value is None else "an empty value"
            rejected.append(Rejection(position, kind, "", f"expected {expected}, got {got}"))
            continue
        try:
            records.append(one(value))
        except Undecodable as error:
            rejected.append(Rejection(position, error.rule or kind, error.field, str(error)))
        else:
            positions.append(position)
    return records, positions
