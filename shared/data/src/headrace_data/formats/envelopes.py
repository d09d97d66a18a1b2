"""Envelopes: records that tell of a row beside much else. What they tell of becomes the row.

A deletion leaves no row, and is none that could be mended: it is told apart by its rule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from headrace_data.describing import describe
from headrace_data.formats.decoding import Decoded, Decoder, KnowsWriters, Undecodable
from headrace_data.rejections import Rejection

RULE: Final = "envelope"
DELETED: Final = "deleted"
"""Rule: a record tells of a row that is there. One that tells of a deletion is counted, and no dead letter."""
_CHANGES: Final = ("c", "r", "u")
"""Created, read in a snapshot, updated."""


class Unwrapped:
    """Reads records by another decoder, and takes rows out of their envelopes."""

    def __init__(self, inner: Decoder, kind: str) -> None:
        """`kind` is a key of ENVELOPES."""
        self._inner = inner
        self._open = ENVELOPES[kind]
        self._has_tombstones = kind == "debezium"

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return the rows in the envelopes among some values: see `Decoder`."""
        found: list[Rejection] = []
        records, positions = self._inner.decode(values, start, found)
        for each in found:
            is_tombstone = self._has_tombstones and values[each.position - start] is None
            rejected.append(_deletion(each.position) if is_tombstone else each)
        rows: list[dict[str, Any]] = []
        places: list[int] = []
        for record, position in zip(records, positions, strict=True):
            try:
                row = self._open(record)
            except Undecodable as error:
                rejected.append(Rejection(position, RULE, error.field, str(error)))
                continue
            if row is None:
                rejected.append(_deletion(position))
                continue
            rows.append(row)
            places.append(position)
        return rows, places

    def writers(self, values: Sequence[bytes | None]) -> Collection[str]:
        """Return the digests of the schemas that envelopes are written with: see `KnowsWriters`."""
        return self._inner.writers(values) if isinstance(self._inner, KnowsWriters) else ()


def _deletion(position: int) -> Rejection:
    return Rejection(position, DELETED, "", "expected a row that is there, got its deletion")


def _debezium(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the row behind a change, with what its own connector calls `__op` and `__ts_ms`; None of a deletion."""
    payload = record.get("payload", record)
    if payload is None:
        return None  # a tombstone of a converter that writes schemas
    op = payload.get("op") if isinstance(payload, dict) else None
    if op == "d":
        return None
    if op not in _CHANGES:
        raise Undecodable(f"op: expected c, r, u or d, as Debezium writes them, got {describe(op)}", RULE, "op")
    after = payload.get("after")
    if not isinstance(after, dict):
        raise Undecodable(f"after: expected an object, got {describe(after)}", RULE, "after")
    return {"__op": op, "__ts_ms": payload.get("ts_ms"), **after}


def _cloudevents(record: dict[str, Any]) -> dict[str, Any]:
    """Return the data of an event, with its attributes by the names that they have in headers, such as `ce_time`."""
    data = record.get("data")
    if "specversion" not in record or not isinstance(data, dict):
        got = describe(data) if "specversion" in record else "an object without specversion"
        raise Undecodable(f"data: expected the data of a CloudEvent, an object, got {got}", RULE, "data")
    return {**{f"ce_{name}": value for name, value in record.items() if name != "data"}, **data}


ENVELOPES: Final[Mapping[str, Callable[[dict[str, Any]], dict[str, Any] | None]]] = {
    "debezium": _debezium,
    "cloudevents": _cloudevents,
}
"""What takes a row out of an envelope, by the word of `stream.envelope`; None of one that tells of a deletion."""
