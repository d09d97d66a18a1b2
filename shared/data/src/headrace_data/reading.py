"""Records that are to be predicted: read as ingestion reads them, without being stored.

One reading for every door: the checks, the format, the envelope, the SELECT and the personal fields are those of
`RecordChecker`. Two things differ, as there is no row to keep: a record may lack what a model does not read, such as
its label, and no key of personal fields is needed, because what is hashed or tokenised is thrown away here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import elements
from headrace_data.dataset import served_values
from headrace_data.formats import Schemas
from headrace_data.formats.json_lines import lines_of
from headrace_data.private.keys import LEAST_BYTES
from headrace_data.records import RecordChecker, Rejection, message_times
from headrace_data.references import Payloads
from headrace_data.select.projecting import Patience
from headrace_data.select.values import Message
from headrace_data.spec import Field, Stream

_NOBODYS_KEY: Final = bytes(LEAST_BYTES)


class Place(NamedTuple):
    """Which record of a call."""

    record: int
    """Position of the value that it came in, from 0."""
    line: int = 0
    """Its line in that value, from 0, of a stream with many records in a message."""


@dataclass(frozen=True)
class Read:
    """What became of the records of one call: each is a row, or rejected."""

    rows: pa.RecordBatch
    places: Sequence[Place]
    """Where each row came from, in order."""
    rejected: Sequence[tuple[Place, Rejection]] = field(default=())
    """The others, in order; a rejection's position is the record's among all."""


class RecordReader:
    """Reads the records of one stream for a model. Holds nothing of them."""

    def __init__(self, stream: Stream, schemas: Schemas | None = None, payloads: Payloads | None = None) -> None:
        """`schemas` are those that records name, `payloads` has what they refer to. Raises as `RecordChecker` does."""
        self.stream = stream.asked
        self._has_lines = stream.has_lines
        self._checker = RecordChecker(self.stream, lambda _: _NOBODYS_KEY, schemas, payloads, may_lack_time=True)

    def read(
        self,
        values: Sequence[bytes | None],
        messages: Sequence[Message] | None = None,
        now_s: float | None = None,
        patience: Patience | None = None,
    ) -> Read:
        """Return the rows among some records, and why the others are none: as a dead letter would say it.

        `messages`, `now_s` and `patience` are those of `RecordChecker.check`. Raises SelectTooSlow, and what says that
        a schema cannot be had.
        """
        places, each = self._records(values)
        of = None if messages is None else [messages[place.record] for place in places]
        times = None if of is None else message_times([message.timestamp_ms for message in of])
        nowhere = np.zeros(len(each), np.int64)
        checked = self._checker.check(each, nowhere, nowhere, times=times, now_s=now_s, messages=of, patience=patience)
        faults = {fault.position for fault in checked.rejected}
        return Read(
            checked.batch,
            [place for at, place in enumerate(places) if at not in faults],
            [(places[fault.position], fault) for fault in checked.rejected],
        )

    def _records(self, values: Sequence[bytes | None]) -> tuple[list[Place], list[bytes | None]]:
        if not self._has_lines:
            return [Place(at) for at in range(len(values))], list(values)
        lines = [(Place(at, number), line) for at, value in enumerate(values) for number, line in lines_of(value)]
        return [place for place, _ in lines], [line for _, line in lines]


def plain_rows(read: Read, fields: Sequence[Field]) -> list[dict[str, Any]]:
    """Return rows with the values of these fields as JSON has them: None for a missing one, lists in their shape."""
    columns = {each.name: _plain(read.rows, each) for each in fields}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(rows: pa.RecordBatch, of: Field) -> list[Any]:
    column = rows.column(of.name)
    if not of.shape:
        return list(column.to_pylist())
    values = elements(rows, of).reshape(len(rows), *of.shape).tolist()
    return [value if there else None for value, there in zip(values, column.is_valid().to_pylist(), strict=True)]


def array_of(read: Read, of: Field, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the values of a field as a model takes them, shape [rows, *field.shape].

    A missing number is NaN, where `dtype` has it, and a missing text is empty.
    """
    return served_values(read.rows, of, dtype)
