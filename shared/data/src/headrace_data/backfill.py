"""Backfill: history from files and topics, checked and cleaned like a stream's records, as segments of its own.

A file is a source: its digest stands for the partition, the number of a row for the offset. So is each partition of a
topic. What a pipeline's history has of a source already is not taken again. Duplicates are looked for among the rows of
one backfill, in the order of its sources.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import orjson
import pyarrow as pa

from headrace_data.batches import INDEX, OFFSET, TIME, times_of
from headrace_data.cleaning import clean, duplicate_in_stream, keys_of
from headrace_data.csv_files import COLUMNS
from headrace_data.errors import DatasetUnusable
from headrace_data.files import Rows, apart
from headrace_data.forgotten import NOTHING_FORGOTTEN, Suppression
from headrace_data.formats import Schemas
from headrace_data.formats.envelopes import DELETED
from headrace_data.history import History, keep
from headrace_data.manifest import Provenance, Source
from headrace_data.parts import BlobStore
from headrace_data.personal import RULE as PERSONAL
from headrace_data.private import Keys, no_keys
from headrace_data.records import RecordChecker, Rejection
from headrace_data.references import Payloads
from headrace_data.seen_keys import SeenKeys, TimedKeys
from headrace_data.segments import SegmentWriter
from headrace_data.select.needs import select_with
from headrace_data.select.values import Message
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline, Stream

SEGMENT_ROWS: Final = 2**20
"""Rows after which a segment ends: a bound that lies in one is found by reading it."""
MOST_REFUSED: Final = 10_000
MOST_REFUSED_BYTES: Final = 32 * 2**20
"""How many refused rows are kept, and about how many bytes of them; all are counted."""
MOST_FAULTS: Final = 5
_FIRST: Final = -(2**31)
_NUMBERS: Final = 2**30


@dataclass(frozen=True)
class Refused:
    """A row that broke a rule."""

    source: Source
    number: int
    """Which row of the source: its offset."""
    value: bytes | None
    rejection: Rejection
    time_us: int | None
    """When what it tells of happened, in microseconds since 1970; None when that is not known."""
    withheld: int | None = None
    """Size of the row in bytes where the value is only what may be told of it; None where it is the row."""

    def __str__(self) -> str:
        return f"{self.source.name} row {self.number}: {self.rejection.reason}"


def timed(stream: Stream, name: str) -> Stream:
    """Return a stream whose event time is what records have under a key."""
    # A time of its own that is no field has no place in a row that has another one.
    is_field = any(field.name == stream.time for field in stream.fields)
    unused = None if is_field or stream.time == name else stream.time
    return stream.model_copy(update={"time": name, "select": select_with(stream, name, unused)})


class Backfill:
    """Takes sources into a history, one after another. Bounded in memory, whatever their size."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: BlobStore,
        history: History,
        stream: Stream,
        now_s: float,
        beat: Callable[[], None] = lambda: None,
        keys: Keys = no_keys,
        schemas: Schemas | None = None,
        suppression: Suppression = NOTHING_FORGOTTEN,
        payloads: Payloads | None = None,
    ) -> None:
        """`stream` is what rows are checked by: the pipeline's, which may name another field for the event time.

        `now_s` is the time (seconds since 1970) that no row may be far ahead of; `beat` is called while it works.
        `keys` has the key of personal fields, `schemas` are those that records name, `payloads` has what they refer to;
        `suppression` tells who comes in no more.
        """
        self.history = history
        self.fresh: dict[str, Sketch] = {}
        """The sketches of the segments that are new, by segment."""
        self.rows = 0
        """Rows that are new."""
        self.known = 0
        """Rows that the history had already."""
        self.rejected: Counter[str] = Counter()
        self.refused: list[Refused] = []
        """The first rows that broke a rule."""
        self._pipeline = pipeline
        self._store, self._now_s, self._beat = store, now_s, beat
        self._has_names = stream.format_kind == "json" and stream.select is None and stream.envelope is None
        """Whether records have the values of fields under the names of these."""
        self._checker, self._suppression = RecordChecker(stream, keys, schemas, payloads), suppression
        self._checker.forgotten = lambda: suppression
        self._seen = SeenKeys(pipeline.prepare.clean.remembered or 1)
        self._timed = _timed_keys(pipeline)
        self._refused_bytes = 0
        self._masked, self._unread, self._writer_schemas = Counter[str](), Counter[str](), set[str]()
        """What was masked in texts of the segment that is written, by kind; what a SELECT could not read, by field."""

    @property
    def faults(self) -> list[str]:
        """Return the first rows that broke a rule, and why."""
        return [str(refused) for refused in self.refused[:MOST_FAULTS]]

    def source(self, name: str, digest: str, partition: int = 0, start: int = 0, end: int = 0) -> Source:
        """Return a source with the number that stands for it: that of its digest, or the next one that is free."""
        taken = {source.number: source.digest for source in self.history.sources}
        number = _FIRST + int(digest.removeprefix("sha256:")[:8], 16) % _NUMBERS
        while taken.get(number, digest) != digest:
            number = _FIRST + (number - _FIRST + 1) % _NUMBERS
        return Source(name=name, digest=digest, number=number, partition=partition, start=start, end=end)

    def has(self, source: Source) -> bool:
        """Tell whether the history has rows of a file already, and count them as known."""
        rows = sum(rows for _, rows in self._of(source.digest))
        self.known += rows
        return rows > 0

    def missing(self, digest: str, start: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges of a topic's partition that the history does not have; rows of others count as known."""
        left: list[tuple[int, int]] = []
        for entry in sorted(self._of(digest), key=lambda each: each[0].start):
            held, rows = entry
            if held.end <= start or held.start >= end:
                continue
            self.known += rows
            if start < held.start:
                left.append((start, held.start))
            start = max(start, held.end)
        return [*left, (start, end)] if start < end else left

    def _of(self, digest: str) -> list[tuple[Source, int]]:
        """Return what the history has of a source, and how many rows each is."""
        sources = ((each.source, each.rows) for each in self.history.entries)
        return [(source, rows) for source, rows in sources if source is not None and source.digest == digest]

    def take(self, source: Source, pieces: Iterable[Rows], provenance: Provenance) -> None:
        """Take in the rows of a source. Raises FileInvalid, and whatever `pieces` raises."""
        writer, start, rejected = SegmentWriter(self._pipeline, self._store), source.start, Counter[str]()
        end = start
        for rows in (some for piece in pieces for some in piece.cut(self._checker.most_rows)):
            self._beat()
            if self._pipeline.stream.has_lines and rows.messages is not None:
                rows = apart(rows)
            if not len(rows.numbers):
                continue
            writer.add(self._sound(source, rows, rejected))
            end = rows.numbers[-1] + 1
            if writer.rows >= SEGMENT_ROWS:
                self._finish(writer, _range(source, start, end), provenance, rejected)
                writer, start, rejected = SegmentWriter(self._pipeline, self._store), end, Counter[str]()
        self._finish(writer, _range(source, start, max(end, source.end)), provenance, rejected)

    def require_rows(self) -> None:
        """Raise DatasetUnusable unless there are rows, new or known."""
        if not self.rows + self.known:
            first = "; ".join(self.faults) or "there is none"
            raise DatasetUnusable(f"expected rows that break no rule, got none among {self.rejected.total()}: {first}")

    def _sound(self, source: Source, rows: Rows, rejected: Counter[str]) -> pa.RecordBatch:
        """Return the rows that may be learned from; count the others, and keep the first of them."""
        numbers = np.asarray(rows.numbers, np.int64)
        places = np.full(len(numbers), source.number)
        checked = self._checker.check(
            rows.values, places, numbers, rows.indexes, rows.times, self._now_s, rows.messages
        )
        known, gone = self._suppression.without(checked.batch, self._pipeline)
        rejected.update(each.rule for each in gone)
        cleaned = clean(known, self._pipeline, self._seen)
        self._seen.commit()
        self._masked.update(checked.masked)
        self._unread.update(checked.unread)
        self._writer_schemas.update(checked.writer_schemas)
        self._masked.update(cleaned.masked)
        sound, repeated = self._without_repeated(cleaned.batch)
        broken: list[tuple[Rejection, int | None]] = [(self._told(fault, rows), None) for fault in checked.rejected]
        broken += [_placed(fault, known, rows) for fault in cleaned.dropped]
        broken += [_placed(fault, cleaned.batch, rows) for fault in repeated]
        for fault, time_us in sorted(broken, key=lambda each: each[0].position):
            self._refuse(source, rows, fault, time_us)
            rejected[fault.rule] += 1
        return sound

    def _without_repeated(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[Rejection]]:
        """Return rows without those whose key was seen within a span of event time, where that is the window."""
        if self._timed is None:
            return batch, []
        new = self._timed.accept(keys_of(batch, self._pipeline), times_of(batch))
        again = np.flatnonzero(~new).tolist()
        return batch.filter(pa.array(new)), [duplicate_in_stream(row, self._pipeline) for row in again]

    @staticmethod
    def _told(fault: Rejection, rows: Rows) -> Rejection:
        reason = rows.faults.get(fault.position)
        return replace(fault, rule=COLUMNS, field="", reason=reason) if reason else fault

    def _refuse(self, source: Source, rows: Rows, rejection: Rejection, time_us: int | None) -> None:
        if rejection.rule == DELETED:
            return
        row = rejection.position
        value = self._shown(rows.values[row], rejection, rows.messages[row] if rows.messages else None)
        self._refused_bytes += len(value or b"")
        if len(self.refused) >= MOST_REFUSED or self._refused_bytes > MOST_REFUSED_BYTES:
            return
        if time_us is None and rows.times is not None and not np.isnat(rows.times[row]):
            time_us = int(rows.times[row].astype(np.int64))
        withheld = len(rows.values[row] or b"") if self._checker.withholds or rejection.forgotten else None
        self.refused.append(Refused(source, int(rows.numbers[row]), value, rejection, time_us, withheld))

    def _shown(self, value: bytes | None, rejection: Rejection, message: Message | None) -> bytes | None:
        """Return a row as it is kept: what may be told of one with personal fields, which are treated.

        The texts that it was refused for are left out when these hold personal data.
        """
        if rejection.forgotten:
            return None
        if self._checker.withholds:
            value = self._checker.letter(value, message)
        policy = self._pipeline.prepare.clean.personal
        if rejection.rule != PERSONAL or policy is None or value is None:
            return value
        if not (self._has_names or self._checker.withholds):
            return None
        return orjson.dumps({name: each for name, each in orjson.loads(value).items() if name not in policy.fields})

    def _finish(self, writer: SegmentWriter, source: Source, provenance: Provenance, rejected: Counter[str]) -> None:
        self.rejected += rejected
        if not writer.rows:
            return
        update = {"backfilled": (source,), "rejected": dict(rejected)}
        update |= {"masked": dict(self._masked), "unread": dict(self._unread)}
        told = {"writer_schemas": tuple(sorted(self._writer_schemas))}
        for counted in (self._masked, self._unread, self._writer_schemas):
            counted.clear()
        segment = writer.finish(provenance.model_copy(update=update | told), self._beat)
        if any(each.segment_id == segment.manifest.segment_id for each in self.history.entries):
            # The same rows, of another file or in another format.
            self.known += segment.manifest.rows
            return
        entry = keep(segment, self._pipeline, self._store).model_copy(update={"source": source})
        self.history = self.history.and_backfilled(entry)
        self.fresh[entry.segment_id] = segment.sketch
        self.rows += entry.rows


def _timed_keys(pipeline: Pipeline) -> TimedKeys | None:
    """Return what remembers keys for a time; None where keys are remembered by their number, or not at all."""
    rules = pipeline.prepare.clean
    if rules.duplicates != "drop" or not pipeline.stream.key_field or isinstance(rules.duplicate_window, int):
        return None
    return TimedKeys(round(rules.duplicate_window * 1_000_000))


def _placed(fault: Rejection, batch: pa.RecordBatch, rows: Rows) -> tuple[Rejection, int | None]:
    """Return a fault of a row of a batch as one of the row with its number, and the row's time in microseconds."""
    number, index = (batch.column(name)[fault.position].as_py() for name in (OFFSET, INDEX))
    time_us = batch.column(TIME).cast(pa.int64())[fault.position].as_py()
    position = bisect_left(rows.numbers, number)
    if rows.indexes is not None:
        position = bisect_left(rows.indexes, index, position, bisect_right(rows.numbers, number))
    return replace(fault, position=position), time_us


def _range(source: Source, start: int, end: int) -> Source:
    return source.model_copy(update={"start": start, "end": end})
