"""Checking records: bytes in, Arrow columns and rejections out.

The rules: that of the stream's format, such as `json` (the bytes are one JSON object, and no object in it has a key
twice: see `formats`), and then per field, in schema order: `missing` (a field that may not be null is there, and no
blank text), `type`, `shape` and `overflow` (the value fits its type, and a float64 is at most 1e250 in size). Where the
stream has a SELECT, the fields are what it makes of a record, and `select` (it can be computed) comes before them. Then
`time` (the field of the event time, where the stream names one, holds a time) and `future` (the event time is not far
ahead of the clock). The first fault of a record is the one that is told. Ranges are looked at by cleaning, because the
pipeline says whether they count.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import LAST_US, TIME, TIME_TYPE, arrow_schema
from headrace_data.columns import Column, Piece, plain
from headrace_data.decoders import decoder_of
from headrace_data.event_time import FUTURE, TimeColumn
from headrace_data.forgotten import Now, hushed, nothing_forgotten
from headrace_data.formats import FILES, Schemas
from headrace_data.formats.decoding import KnowsWriters
from headrace_data.formats.file_fields import rows_decoded, rows_together
from headrace_data.formats.framing import with_header
from headrace_data.private import Keys, PrivateFields, no_keys
from headrace_data.references import MOST_REFERRED, TOGETHER, Payloads, References
from headrace_data.rejections import Rejection
from headrace_data.select.projecting import RULE as SELECT
from headrace_data.select.projecting import Patience, Projection, rows_at_once
from headrace_data.select.values import Message
from headrace_data.spec import Stream
from headrace_data.spec.scalars import format_duration

_LARGE_CHUNK: Final = 512
"""Records decoded at a time."""
_SMALL_CHUNK: Final = 64
"""The same for records with lists. More lists alive at a time would send Python's garbage collector looking."""

__all__ = ["Checked", "Numbers", "RecordChecker", "Rejection", "Times", "message_times"]
Numbers = Sequence[int] | npt.NDArray[np.signedinteger[Any]]
Times = npt.NDArray[np.datetime64]
"""Event times in microseconds, UTC; NaT where nobody knows one."""


def message_times(stamps_ms: Sequence[int]) -> Times:
    """Return timestamps of Kafka messages (milliseconds since 1970) as event times.

    NaT stands for what is none, such as the -1 of a message without a timestamp.
    """
    stamps = np.minimum(np.array(stamps_ms, np.int64), LAST_US // 1_000)
    stamps[stamps <= 0] = np.iinfo(np.int64).min
    return stamps.view("datetime64[ms]").astype("datetime64[us]")


@dataclass(frozen=True)
class Checked:
    """The records that passed, as columns in the order they came, and why the others did not."""

    batch: pa.RecordBatch
    rejected: list[Rejection]
    masked: Mapping[str, int]
    """What was masked in personal fields, by kind."""
    unread: Counter[str] = field(default_factory=Counter)
    """By field: how many values are missing because the SELECT tried to read what is there, and could not."""
    writer_schemas: Collection[str] = ()
    """Digests of the schemas that the records were written with, as far as their format tells."""


@dataclass(frozen=True)
class _Told:
    """What is told of records beside their columns."""

    rejected: list[Rejection] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    writer_schemas: set[str] = field(default_factory=set)


class RecordChecker:
    """Checks the records of one stream against its schema. Holds no state between batches."""

    def __init__(
        self,
        stream: Stream,
        keys: Keys = no_keys,
        schemas: Schemas | None = None,
        payloads: Payloads | None = None,
        *,
        may_lack_time: bool = False,
    ) -> None:
        """`keys` has the key of personal fields that are hashed or tokenised.

        `schemas` are needed to check records that name the schema they were written with, `payloads` for those that
        come by reference. Raises SchemaInvalid when a
        schema in the stream's format is none.
        """
        self._stream = stream
        self._private = PrivateFields(stream, keys)
        self._names = [field.name for field in stream.fields]
        self._decoder = decoder_of(stream, schemas, _lists_of_floats(stream))
        self._writers = self._decoder.writers if isinstance(self._decoder, KnowsWriters) else None
        self._columns: list[Column] = [self._private.column(field) for field in stream.fields]
        if stream.time is not None:
            self._names.append(stream.time)
            self._columns.append(TimeColumn(may_lack=may_lack_time))
        self._schema = arrow_schema(stream.fields)
        self._key = stream.key_field
        self.forgotten: Now = nothing_forgotten
        """Tells which keys are forgotten: of what such a record holds, its rejection tells nothing."""
        self._is_json = stream.format_kind in ("json", "json-schema")
        self._references = References(stream.references or (), payloads) if stream.references and payloads else None
        self._is_file = stream.format_kind in FILES
        self.most_rows = rows_together(stream) if self._is_file else sys.maxsize
        """How many records are checked at a time: rows may be large, however small the messages are."""
        self._most_decoded = rows_decoded(stream) if self._is_file else sys.maxsize
        if self._references is not None:
            self.most_rows = min(self.most_rows, MOST_REFERRED)
            self._most_decoded = min(self._most_decoded, TOGETHER)
        self._names_schemas = stream.registry is not None
        self._has_lists = any(field.shape for field in stream.fields)
        self._projection = Projection(stream) if stream.select is not None else None

    def check(
        self,
        values: Sequence[bytes | None],
        partitions: Numbers,
        offsets: Numbers,
        indexes: Numbers | None = None,
        times: Times | None = None,
        now_s: float | None = None,
        messages: Sequence[Message] | None = None,
        patience: Patience | None = None,
    ) -> Checked:
        """Check records in the format of the stream; None is one without a value. A bad one never stops the good ones.

        Personal fields come out treated. `partitions`, `offsets` and `indexes` say where each record came from; without
        `indexes` all are 0. `times` say when what they tell of happened, unless the stream names a field that does.
        `now_s` is the clock (seconds since 1970) that no time may be far ahead of; without it any may. `messages` are
        what a SELECT may read beside the records; None where they came in none. `patience` is that of their batch.

        Raises ValueError when lengths differ, SelectTooSlow, and what says that a key is not there.
        """
        indexes = [0] * len(values) if indexes is None else indexes
        times = np.full(len(values), "NaT", "datetime64[us]") if times is None else times
        _check_lengths(values, partitions, offsets, indexes, times)
        told = _Told()
        rejected = told.rejected
        arrays, masked = self._private.treated(self._names, self._arrays(values, messages, told, patience))
        kept = np.ones(len(values), dtype=np.bool_)
        kept[[rejection.position for rejection in rejected]] = False
        lineage = [
            pa.array(np.asarray(partitions, dtype=np.int32)[kept]),
            pa.array(np.asarray(offsets, dtype=np.int64)[kept]),
            pa.array(np.asarray(indexes, dtype=np.int32)[kept]),
            arrays.pop() if self._stream.time is not None else pa.array(times[kept], TIME_TYPE),
        ]
        batch = pa.RecordBatch.from_arrays([*arrays, *lineage], schema=self._schema)
        if now_s is not None:
            batch = self._without_future(batch, np.flatnonzero(kept), now_s, rejected)
        rejected = self._hushed(sorted(rejected, key=lambda rejection: rejection.position), values, messages)
        faults = self._private.told(rejected) if self.withholds else rejected
        return Checked(batch, faults, masked, told.unread, told.writer_schemas)

    def require_key(self) -> None:
        """Read the key of personal fields, where one is needed. Raises what says why there is none."""
        self._private.require_key()

    @property
    def withholds(self) -> bool:
        """Whether the stream has personal fields: of a record that is rejected no more is told than `letter` has."""
        return self._private.are_some

    def letter(self, value: bytes | None, message: Message | None = None) -> bytes | None:
        """Return what a dead letter may hold of a record: its sound fields, treated; None of what nobody can read.

        `message` is what the record came in, which may tell how it is read.
        """
        for read, positions, _ in self._columns_of([value], None if message is None else [message], _Told()):
            if positions:
                record = {name: plain(found[0]) for name, found in zip(self._names, read, strict=True)}
                return self._private.letter(record, dict(zip(self._names, self._columns, strict=True)))
        return None

    def _hushed(
        self, rejected: list[Rejection], values: Sequence[bytes | None], messages: Sequence[Message] | None
    ) -> list[Rejection]:
        """Return rejections, those of records with forgotten keys without what these hold.

        The key of a record that nobody can read is not known; that of its message may be the same.
        """
        if self._key is None or not rejected or not (suppression := self.forgotten()):
            return rejected
        places = [rejection.position for rejection in rejected]
        some = None if messages is None else [messages[place] for place in places]
        gone = suppression.texts([_text(message.key) for message in some or ()] or [None] * len(places))
        at = self._names.index(self._key.name)
        for read, positions, _ in self._columns_of([values[place] for place in places], some, _Told()):
            for position, value in zip(positions, read[at], strict=True):
                if (piece := self._columns[at].read([value])) is not None:
                    (keys,), _counts = self._private.treated([self._key.name], [self._columns[at].build([piece])])
                    gone[position] |= suppression.among(keys)[0]
        return [hushed(each) if is_gone else each for each, is_gone in zip(rejected, gone.tolist(), strict=True)]

    def _arrays(
        self,
        values: Sequence[bytes | None],
        messages: Sequence[Message] | None,
        told: _Told,
        patience: Patience | None,
    ) -> list[pa.Array]:
        """Return the columns of the good records; the others are `told`."""
        pieces: list[list[Piece]] = [[] for _ in self._columns]
        for columns, positions, booleans in self._columns_of(values, messages, told, patience):
            for read in self._read(columns, positions, told.rejected, booleans=booleans):
                for of_field, piece in zip(pieces, read, strict=True):
                    of_field.append(piece)
        return [column.build(of_field) for column, of_field in zip(self._columns, pieces, strict=True)]

    def _columns_of(
        self,
        values: Sequence[bytes | None],
        messages: Sequence[Message] | None,
        told: _Told,
        patience: Patience | None = None,
    ) -> Iterator[tuple[list[list[Any]], Sequence[int], bool]]:
        """Yield what records have for each field, where they stand, and whether a boolean may be among it."""
        size = _SMALL_CHUNK if self._has_lists else _LARGE_CHUNK
        size = min(size, self._most_decoded)
        at_once = size if self._projection is None else min(rows_at_once(values), self._most_decoded)
        patience = patience or Patience()
        for first in range(0, len(values), at_once):
            gathered = None if self._projection is None else self._projection.gather(patience)
            for start in range(first, min(first + at_once, len(values)), size):
                chunk, faults = self._values(values[start : min(start + size, first + at_once)], start, messages)
                found: list[Rejection] = []
                records, positions = self._decoder.decode(chunk, start, found)
                # What could not be fetched is no value to the decoder.
                told.rejected.extend(faults.get(each.position, each) for each in found)
                if self._writers is not None:
                    told.writer_schemas.update(self._writers(chunk))
                if gathered is not None:
                    gathered.add(records, positions, messages)
                    continue
                # A look through the bytes pays when it spares one at each of many elements.
                booleans = not self._is_file and (not (self._has_lists and self._is_json) or _has_booleans(chunk))
                yield [[record.get(name) for record in records] for name in self._names], positions, booleans
            if gathered is not None:
                made = gathered.computed()
                told.rejected.extend(Rejection(each.position, SELECT, each.name, each.reason) for each in made.faults)
                told.unread.update(made.unread)
                # What a SELECT computes of a file has the type of its field.
                yield [made.columns[name] for name in self._names], made.positions, not self._is_file

    def _values(
        self, values: Sequence[bytes | None], start: int, messages: Sequence[Message] | None
    ) -> tuple[Sequence[bytes | None], Mapping[int, Rejection]]:
        """Return values with what their messages have of them, and by position why one that lies elsewhere is none."""
        faults: Mapping[int, Rejection] = {}
        if messages is None:
            return values, faults
        some = messages[start : start + len(values)]
        if self._references is not None:
            values, faults = self._references.fetched(values, some, start)
        if self._names_schemas:
            values = [with_header(value, message.headers) for value, message in zip(values, some, strict=True)]
        return values, faults

    def _without_future(
        self, batch: pa.RecordBatch, positions: npt.NDArray[np.intp], now_s: float, rejected: list[Rejection]
    ) -> pa.RecordBatch:
        """Return a batch without rows far ahead of the clock, which are added to `rejected`."""
        latest = datetime.fromtimestamp(now_s + self._stream.max_ahead, UTC)
        ahead = pc.fill_null(pc.greater(batch.column(TIME), pa.scalar(latest, TIME_TYPE)), False)
        if not pc.any(ahead).as_py():
            return batch
        of = self._stream.time or "timestamp of the message"
        wanted = (
            f"a time up to {_shown(latest)}, which is maxAhead ({format_duration(self._stream.max_ahead)}) from now"
        )
        for row in np.flatnonzero(ahead.to_numpy(zero_copy_only=False)).tolist():
            got = _shown(batch.column(TIME)[row].as_py())
            reason = f"{of}: expected {wanted}, got {got}"
            rejected.append(Rejection(int(positions[row]), FUTURE, self._stream.time or "", reason))
        return batch.filter(pc.invert(ahead))

    def _read(
        self, columns: list[list[Any]], positions: Sequence[int], rejected: list[Rejection], *, booleans: bool
    ) -> Iterator[list[Piece]]:
        """Yield the columns of the good records, in order; add the bad ones to `rejected`.

        Halving finds a few bad records among many good ones without a look at each.
        """
        pieces = self._read_columns(columns, booleans=booleans) if positions else []
        if pieces is not None:
            yield from [pieces] if pieces else []
        elif len(positions) == 1:
            rejected.append(self._fault(columns, positions[0]))
        else:
            half = len(positions) // 2
            first, second = [each[:half] for each in columns], [each[half:] for each in columns]
            yield from self._read(first, positions[:half], rejected, booleans=booleans)
            yield from self._read(second, positions[half:], rejected, booleans=booleans)

    def _read_columns(self, columns: list[list[Any]], *, booleans: bool) -> list[Piece] | None:
        """Return the columns of some records, or None when any value is wrong."""
        pieces: list[Piece] = []
        for values, column in zip(columns, self._columns, strict=True):
            piece = column.read(values, booleans=booleans)
            if piece is None:
                return None
            pieces.append(piece)
        return pieces

    def _fault(self, columns: list[list[Any]], position: int) -> Rejection:
        """Return why the one record of these columns is wrong."""
        for name, column, values in zip(self._names, self._columns, columns, strict=True):
            if fault := column.fault(values[0]):
                return Rejection(position, fault.rule, name, f"{name}: {fault.reason}")
        raise AssertionError("a column refused a value without a fault")


def _lists_of_floats(stream: Stream) -> Collection[str]:
    """Return the fields that take arrays of floats as records have them: nothing else looks at their values before."""
    if stream.select is not None or stream.envelope is not None:
        return ()
    return {field.name for field in stream.fields if field.shape and field.dtype.kind == "f"}


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="replace")


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _has_booleans(values: Sequence[bytes | None]) -> bool:
    """Return whether there may be a boolean anywhere in some values: these words, which are written in one way only."""
    text = b"".join(filter(None, values))
    # A single letter is found, or not, many times faster than a word.
    return (b"u" in text and b"true" in text) or (b"f" in text and b"false" in text)


def _check_lengths(*of_values: Sized) -> None:
    lengths = [len(each) for each in of_values]
    if len(set(lengths)) > 1:
        raise ValueError(f"expected one partition, offset, index and time per value, got {lengths}")
