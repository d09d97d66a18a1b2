"""Checks records against a pipeline's schema and packs what passes into batches."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from headrace_data.batches import OFFSET
from headrace_data.csv_files import COLUMNS
from headrace_data.forgotten import Now, hushed, nothing_forgotten
from headrace_data.formats import Schemas
from headrace_data.formats.envelopes import DELETED
from headrace_data.formats.json_lines import lines_of
from headrace_data.lateness import Lateness
from headrace_data.private import Keys, no_keys, withheld
from headrace_data.records import Checked, RecordChecker, Rejection, message_times
from headrace_data.references import Payloads
from headrace_data.select.projecting import Patience
from headrace_data.spec import Pipeline
from headrace_runtime.poison.bisection import CRASH
from headrace_runtime.records import Record, by_place
from headrace_runtime.stream.dead_letters import DELETED_UNREAD

OVERSIZED = "oversized"
"""Rule: a record is larger than the limit, and not even parsed; or its row is larger than a message may be."""
MOST_ROW_BYTES = 7_000_000
"""Most bytes of a row, and of the rows of one message: it has to fit into 8 MiB with its envelope."""


class TimeSource(Enum):
    """What says when a row's event happened."""

    CREATE = "create"
    """Its producer, by the timestamp of the Kafka record."""
    APPEND = "append"
    """The broker, by the same."""
    FIELD = "field"
    """A field of the record."""
    ACCEPT = "accept"
    """The moment at which ingestion accepted it."""


class Form(Enum):
    """What a record is read as."""

    SENT = "sent"
    """What producers send."""
    FILE = "file"
    """A row of a file in JSON, before the SELECT: without the stream's format and envelope."""
    ROW = "row"
    """A row by the names of the schema, in JSON."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one source partition that belong in one message."""

    partition: int
    start: int
    end: int
    """The range of source offsets that the batch accounts for, rejected records included; the end is exclusive."""
    rows: pa.RecordBatch
    rejected: Mapping[str, int] = field(default_factory=dict)
    time_sources: Collection[TimeSource] = ()
    """Where the times of the rows come from."""
    masked: Mapping[str, int] = field(default_factory=dict)
    """What was masked in personal fields of the range, by kind."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """How many values a SELECT could not read, by field."""
    writer_schemas: Collection[str] = ()
    """Digests of the schemas that the records of the range, and those beside it, were written with."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of some records: every one is in a batch or among the rejected, but for those of deletions."""

    batches: Sequence[Batch]
    rejected: Sequence[tuple[Record, Rejection]]
    """A rejection's position is the record's among those of its partition."""
    form: Form = Form.SENT
    """What they were read as."""

    @property
    def unread(self) -> Counter[str]:
        """By field: how many values are missing because the SELECT could not read what is there."""
        return sum((Counter(batch.unread) for batch in self.batches), Counter())


class Intake:
    """The entrance of one pipeline."""

    def __init__(
        self,
        pipeline: Pipeline,
        batch_bytes: int,
        max_record_bytes: int,
        clock: Callable[[], float] = time.time,
        keys: Keys = no_keys,
        schemas: Schemas | None = None,
        payloads: Payloads | None = None,
    ) -> None:
        """Take the sizes (bytes) at which a batch is closed, and of the largest record.

        `clock` returns seconds since 1970; no event is far ahead of it. `keys` has the key of personal fields,
        `schemas` are those that records name, `payloads` has what they refer to. Raises SchemaInvalid when a schema in
        the stream's format is none, and ImportError where a library is not there that reads its files.
        """
        self.pipeline = pipeline
        self.lateness = Lateness()
        """Of the rows that were written since this process began."""
        self._clock = clock
        self.topic_id: Callable[[], str] = str
        """Returns the broker's id of the producers' topic, empty when it is not known."""
        self.forgotten: Now = nothing_forgotten
        """Tells which keys are forgotten: letters tell nothing of what their records hold."""
        self.batch_bytes = batch_bytes
        self.max_record_bytes = max_record_bytes
        self.keys_dir: Path | None = None
        """Where these keys are, for processes in which records are tried."""
        self.store_url = ""
        """The object store that records refer to, for the same."""
        self._checker = RecordChecker(pipeline.stream.incoming, keys, schemas, payloads)
        self._others: dict[Form, RecordChecker] = {}
        """What reads records in other forms, from the first of these on."""
        self._keys = keys

    def require_key(self) -> None:
        """Raise what says so where the key of personal fields is not there: nothing can be checked without it."""
        self._checker.require_key()

    @property
    def most_records(self) -> int:
        """How many records are taken at a time."""
        return self._checker.most_rows

    @property
    def withholds(self) -> bool:
        """Whether a dead letter holds no more of a record than `letter` returns."""
        return self._checker.withholds

    def letter(self, record: Record, form: Form = Form.SENT) -> bytes | None:
        """Return what a dead letter may hold of a record with personal fields; None where that is nothing."""
        return self._reads(form).letter(record.value, record)

    def take(self, records: Sequence[Record], *, numbered: bool = False, form: Form = Form.SENT) -> Taken:
        """Check records that are in order within each partition. A bad one never stops the good ones.

        Those that were pushed share an offset, and are `numbered`: a row's index is its record's place among them. Of
        others one may be a message with many, on lines.
        """
        checker = self._reads(form)
        has_lines = self.pipeline.stream.has_lines and form is Form.SENT and not numbered
        records = _lines(records) if has_lines else records
        batches: list[Batch] = []
        rejected: list[tuple[Record, Rejection]] = []
        patience = Patience()
        for group in by_place(records).values():
            checked = self._check(checker, group, patience, numbered=numbered)
            rows, faults = checked.batch, checked.rejected
            if form is Form.FILE:
                faults = [_of_cells(fault, group[fault.position]) for fault in faults]
            rejected += [(group[fault.position], fault) for fault in faults if fault.rule != DELETED]
            sources = self._time_sources(group, numbered=numbered)
            counts = Counter(fault.rule for fault in faults)
            pieces = _split(group, rows, counts, self.batch_bytes, by_message=has_lines)
            writers = checked.writer_schemas
            split = [replace(batch, time_sources=sources, writer_schemas=writers) for batch in pieces]
            batches += [*split[:-1], replace(split[-1], masked=checked.masked, unread=checked.unread)]
        return Taken(batches, rejected, form)

    def _reads(self, form: Form) -> RecordChecker:
        if form is not Form.SENT and form not in self._others:
            stream = self.pipeline.stream.incoming
            self._others[form] = RecordChecker(stream.of_rows if form is Form.ROW else stream.in_json, self._keys)
        checker = self._checker if form is Form.SENT else self._others[form]
        checker.forgotten = self.forgotten
        return checker

    def _time_sources(self, group: Sequence[Record], *, numbered: bool) -> Collection[TimeSource]:
        if self.pipeline.stream.time is not None:
            return (TimeSource.FIELD,)
        if not group[0].topic:
            # Pushed, or a dead letter that is replayed, whose time is that of its record.
            return (TimeSource.ACCEPT,) if numbered else ()
        appended = {record.is_append_time for record in group if record.timestamp_ms > 0}
        return [TimeSource.APPEND if kind else TimeSource.CREATE for kind in sorted(appended)]

    def set_aside(self, record: Record, reason: str) -> Taken:
        """Reject a record that nobody can check without dying, unread; its place is accounted for."""
        nothing = self._checker.check([], [], []).batch
        reason = withheld(reason, CRASH) if self.withholds else reason
        batch = Batch(record.partition, record.offset, record.offset + 1, nothing, {CRASH: 1})
        return Taken([batch], [(record, self._hushed(Rejection(0, CRASH, "", reason), record.key))])

    def _hushed(self, fault: Rejection, key: bytes | None) -> Rejection:
        """Return the rejection of a record that nobody reads: whose it is is told by the key of its message, if any."""
        text = None if key is None else key.decode(errors="replace")
        return hushed(fault) if self.forgotten().texts([text])[0] else fault

    def pass_over(self, partition: int, start: int, end: int) -> Batch:
        """Account for a range of offsets whose records were deleted before they were read."""
        return Batch(partition, start, end, self._checker.check([], [], []).batch, {DELETED_UNREAD: end - start})

    def _check(self, checker: RecordChecker, group: Sequence[Record], patience: Patience, *, numbered: bool) -> Checked:
        """Return the rows of one source partition, and why the other records are none, in order."""
        values, limit, small = [record.value for record in group], self.max_record_bytes, group
        sizes = [len(value) if value else 0 for value in values]
        places, oversized = np.arange(len(group)), [at for at, size in enumerate(sizes) if size > limit]
        if oversized:
            places = np.delete(places, oversized)
            small = [group[at] for at in places.tolist()]
            values = [record.value for record in small]
        offsets = np.array([record.offset for record in small], np.int64)
        partitions = np.full(len(places), group[0].partition)
        times = message_times([record.timestamp_ms for record in small])
        indexes = places if numbered else None
        if not numbered and self.pipeline.stream.has_lines:
            indexes = np.array([record.number for record in small], np.int64)
        # What was pushed came in no message of Kafka, but may have what stands beside the value of one.
        messages = small if not numbered or any(each.key is not None or each.headers for each in small) else None
        checked = checker.check(values, partitions, offsets, indexes, times, self._clock(), messages, patience)
        faults = [replace(fault, position=int(places[fault.position])) for fault in checked.rejected]
        unread = [Rejection(at, OVERSIZED, "", f"expected at most {limit} bytes, got {sizes[at]}") for at in oversized]
        faults += [self._hushed(fault, group[fault.position].key) for fault in unread]
        rows, large = _without_large(checked.batch, by_message=not numbered)
        if large:
            # Rows are told by where they came from: rejected records lie between them.
            kept = np.delete(np.arange(len(group)), [fault.position for fault in faults])
            gone = self.forgotten().rows(checked.batch, self.pipeline)
            told = [(Rejection(int(kept[at]), OVERSIZED, "", reason), gone[at]) for at, reason in large]
            faults += [hushed(fault) if is_gone else fault for fault, is_gone in told]
        return replace(checked, batch=rows, rejected=sorted(faults, key=lambda fault: fault.position))


def _of_cells(fault: Rejection, record: Record) -> Rejection:
    """Return the rejection of a file's row; one that came as its cells is none of the table's, of CSV."""
    try:
        cells = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return fault
    if fault.forgotten or not isinstance(cells, list) or not all(isinstance(cell, str) for cell in cells):
        return fault
    reason = f"expected a row with a cell for each column of the file, got {len(cells)}"
    return replace(fault, rule=COLUMNS, reason=reason)


def _lines(messages: Sequence[Record]) -> list[Record]:
    return [
        message._replace(value=line, number=number) for message in messages for number, line in lines_of(message.value)
    ]


def _without_large(rows: pa.RecordBatch, *, by_message: bool) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
    """Return rows without those that no message can hold, and what is wrong with these, by their places.

    Rows that came in one message of the producers' stay together, where they are told `by_message`.
    """
    if rows.nbytes <= MOST_ROW_BYTES:
        return rows, []
    starts = _starts(rows, by_message=by_message)
    sizes = [rows.slice(first, last - first).nbytes for first, last in pairwise(starts)]
    large = [
        (at, f"expected {'rows' if last - first > 1 else 'a row'} of at most {MOST_ROW_BYTES} bytes, got {size}")
        for (first, last), size in zip(pairwise(starts), sizes, strict=True)
        if size > MOST_ROW_BYTES
        for at in range(first, last)
    ]
    kept = np.delete(np.arange(rows.num_rows), [at for at, _ in large])
    return rows.take(pa.array(kept)) if large else rows, large


def _starts(rows: pa.RecordBatch, *, by_message: bool) -> Sequence[int]:
    """Return where rows begin that may not be taken apart, and behind them the number of all."""
    if not by_message or not rows.num_rows:
        return range(rows.num_rows + 1)
    firsts: list[int] = np.flatnonzero(np.diff(rows.column(OFFSET).to_numpy(), prepend=-1)).tolist()
    return [*firsts, rows.num_rows]


def _halved(rows: pa.RecordBatch, starts: Sequence[int], first: int, last: int) -> list[int]:
    """Return which of `starts` begin pieces of a range of these, each small enough for a message."""
    if last - first < 2 or rows.slice(starts[first], starts[last] - starts[first]).nbytes <= MOST_ROW_BYTES:
        return [first]
    middle = (first + last) // 2
    return [*_halved(rows, starts, first, middle), *_halved(rows, starts, middle, last)]


def _split(
    group: Sequence[Record], rows: pa.RecordBatch, rejected: Mapping[str, int], limit: int, *, by_message: bool
) -> Iterator[Batch]:
    """Cut rows into batches of about `limit` bytes whose ranges meet without a gap; the last tells of the rejected."""
    starts = _starts(rows, by_message=by_message)
    parts, pieces = len(starts) - 1, max(1, -(-rows.nbytes // limit))
    cuts = [*range(0, parts, max(1, -(-parts // pieces))), parts] if parts else [0, 0]
    # Rows of texts may be of very different sizes.
    cuts = [*(at for first, last in pairwise(cuts) for at in _halved(rows, starts, first, last)), cuts[-1]]
    offsets = rows.column(OFFSET)
    start, end = group[0].offset, group[-1].offset + 1
    for first, last in pairwise(starts[cut] for cut in cuts):
        is_last = last == rows.num_rows
        stop = end if is_last else offsets[last].as_py()
        yield Batch(group[0].partition, start, stop, rows.slice(first, last - first), rejected if is_last else {})
        start = stop
