"""Rebuild: segments that are made again of what the log still has, by the rules of now, in their places of the history.

A segment is made again as a whole, from the producers' ranges that it was cut from; where labels come later than their
rows, of the rows that it has, with the labels that they got. One that the log has not all of any more stays as it is,
and so does one that is held or was dropped. Duplicates are looked for where the pipeline looks for them, in each
partition or in the stream, among the keys of the segments before: what was left out as a duplicate stands in no
segment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from headrace_data.backfill import Refused
from headrace_data.cleaning import DUPLICATES, clean, keys_of
from headrace_data.errors import DatasetUnusable
from headrace_data.files import Rows, apart
from headrace_data.forgotten import NOTHING_FORGOTTEN, Suppression
from headrace_data.formats import Schemas
from headrace_data.history import Entry, History, keep
from headrace_data.key_digests import Digests
from headrace_data.manifest import SegmentManifest
from headrace_data.parts import BlobStore, read_part
from headrace_data.private import Keys, no_keys
from headrace_data.rebuilt_labels import KeptLabels
from headrace_data.records import RecordChecker
from headrace_data.references import Payloads
from headrace_data.seen_keys import SeenKeys
from headrace_data.segments import SegmentWriter
from headrace_data.sketches import Sketch
from headrace_data.slices import left_out
from headrace_data.spec import Pipeline
from headrace_data.stream_keys import duplicates_of, newest_keys

MOST_FAULTS: Final = 5


@dataclass(frozen=True)
class Log:
    """What is left of the producers' topic."""

    topic_id: str
    """The cluster's id of it."""
    bounds: Mapping[int, tuple[int, int]]
    """By partition: the first offset that is there, and the one behind the last."""
    rows: Callable[[int, int, int], Iterable[Rows]]
    """Returns the records of a partition from one offset to another."""


@dataclass(frozen=True)
class _Counts:
    """What was masked in texts by kind, which values a SELECT could not read by field, and by which schemas."""

    masked: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    writer_schemas: set[str] = field(default_factory=set)


class Rebuild:
    """Makes segments of a history again. Bounded in memory, whatever their size."""

    refused: Sequence[Refused] = ()
    """None: what breaks a rule now became a dead letter when it came, or is one row fewer."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: BlobStore,
        history: History,
        now_s: float,
        beat: Callable[[], None],
        keys: Keys = no_keys,
        schemas: Schemas | None = None,
        suppression: Suppression = NOTHING_FORGOTTEN,
        payloads: Payloads | None = None,
    ) -> None:
        """`now_s` is the time (seconds since 1970) that no row may be far ahead of; `beat` is called while it works.

        `keys` has the key of personal fields, `schemas` are those that the stream's records name, `payloads` has
        what they refer to. `suppression` tells records that come into no segment any more.
        """
        self.history = history
        self.fresh: dict[str, Sketch] = {}
        """The sketches of the segments that are new, by segment."""
        self.rows = 0
        """Rows of segments that are other ones now."""
        self.known = 0
        """Rows of segments that came out as they were."""
        self.rejected: Counter[str] = Counter()
        self.faults: list[str] = []
        """Why the first segments that stay as they are do so."""
        self._stay = 0
        self._pipeline = pipeline
        self._store = store
        self._now_s = now_s
        self._beat = beat
        self._checker = RecordChecker(pipeline.stream.incoming, keys, schemas, payloads)
        self._suppression = suppression

    def take(self, log: Log, since_us: int | None, until_us: int | None) -> None:
        """Make the segments again that hold a row of a time in between, oldest first.

        Times are in microseconds since 1970; None stands for all that were before, or come after.
        """
        for place, entry in enumerate(self.history.entries):
            if entry.source is not None or not _within(entry, since_us, until_us):
                continue
            manifest = self._manifest(entry)
            if reason := _decided(entry) or _why_not(manifest, log):
                self._stay += 1
                self.faults = [*self.faults, f"segment {entry.segment_id} stays as it is: {reason}"][:MOST_FAULTS]
                continue
            self._again(place, manifest, log)

    def require_rows(self) -> None:
        """Raise DatasetUnusable unless a segment was made again."""
        if not self.rows + self.known:
            reasons = "; ".join(self.faults) or "none has a row of that time"
            raise DatasetUnusable(f"expected a segment that can be made again, got none: {reasons}")

    def _again(self, place: int, manifest: SegmentManifest, log: Log) -> None:
        writer, rejected = SegmentWriter(self._pipeline, self._store), Counter[str]()
        counts = _Counts()
        before = partial(newest_keys, self.history.before(place), self._pipeline, self._store, self._beat)
        labels = None
        if self._pipeline.stream.labels is not None:
            labels = KeptLabels(manifest, self._pipeline, self._store, self._beat)
        cleaned = partial(self._cleaned, place, manifest, log, labels)
        duplicates = duplicates_of((batch for batch, _ in cleaned(_Counts())), self._pipeline, before)
        for batch, broken in cleaned(counts):
            again = duplicates.among(batch)
            rejected.update(broken)
            rejected[DUPLICATES] += len(again)
            writer.add(batch.take(pa.array(np.setdiff1d(np.arange(len(batch)), again))) if len(again) else batch)
        update = {"rejected": rejected, "masked": counts.masked, "unread": counts.unread}
        writers = {"writer_schemas": tuple(sorted(counts.writer_schemas))}
        if labels is not None:
            # Its ranges are those of other segments, too: what they came with is told already.
            update, writers = {"rejected": rejected + Counter(manifest.provenance.rejected)}, {}
        told = {name: dict(sorted((+found).items())) for name, found in update.items()}
        segment = writer.finish(manifest.provenance.model_copy(update=told | writers), self._beat)
        self.rejected += rejected
        if segment.manifest.segment_id == manifest.segment_id:
            self.known += segment.manifest.rows
            return
        entry = keep(segment, self._pipeline, self._store)
        self.history = self.history.with_at(place, entry)
        self.fresh[entry.segment_id] = segment.sketch
        self.rows += entry.rows

    def _cleaned(
        self, place: int, manifest: SegmentManifest, log: Log, labels: KeptLabels | None, counts: _Counts
    ) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
        """Yield what each partition leaves of a segment's records, and the rules that the others broke.

        What is masked in texts, and what a SELECT could not read, is counted. With `labels` these are the rows alone,
        and those that broke a rule, that the segment has.
        """
        for source in manifest.provenance.sources:
            seen = self._seen(place, source.partition)
            pieces = log.rows(source.partition, source.start, source.end)
            for rows in (some for piece in pieces for some in piece.cut(self._checker.most_rows)):
                self._beat()
                rows = apart(rows) if self._pipeline.stream.has_lines else rows
                numbers = np.asarray(rows.numbers, np.int64)
                partitions = np.full(len(numbers), source.partition)
                checked = self._checker.check(
                    rows.values, partitions, numbers, rows.indexes, rows.times, self._now_s, rows.messages
                )
                found, broken = checked.batch, checked.rejected
                if labels is not None:
                    own = labels.has(source.partition, numbers, rows.indexes)
                    broken = [each for each in broken if own[each.position]]
                    found = labels.joined(found, source.partition)
                sound, gone = self._suppression.without(found, self._pipeline)
                cleaned = clean(sound, self._pipeline, seen)
                seen.commit()
                counts.masked.update(checked.masked)
                counts.masked.update(cleaned.masked)
                counts.unread.update(checked.unread)
                counts.writer_schemas.update(checked.writer_schemas)
                yield cleaned.batch, [each.rule for each in (*broken, *gone, *cleaned.dropped)]

    def _seen(self, place: int, partition: int) -> SeenKeys:
        """Return the keys that the segments before one accepted in a partition, back to the window."""
        window, field = self._pipeline.prepare.clean.remembered, self._pipeline.stream.key_field
        found: list[Digests] = []
        if window and field is not None:
            parts = (
                part
                for entry in reversed(self.history.entries[:place])
                if entry.source is None
                for part in reversed(self._manifest(entry).parts)
                if part.partition == partition
            )
            while sum(map(len, found)) < window and (part := next(parts, None)):
                rows = read_part(part, [field], self._store).filter(pa.array(~left_out(part)))
                found.append(keys_of(rows, self._pipeline))
                self._beat()
        seen = SeenKeys(window or 1)
        for keys in reversed(found):
            seen.remember(keys)
        return seen

    def _manifest(self, entry: Entry) -> SegmentManifest:
        return SegmentManifest.from_json(self._store.get(entry.manifest))


def _within(entry: Entry, since_us: int | None, until_us: int | None) -> bool:
    if entry.first_time is None or entry.last_time is None:
        return since_us is None
    return (since_us is None or entry.last_time >= since_us) and (until_us is None or entry.first_time < until_us)


def _decided(entry: Entry) -> str:
    """Return that a segment is held or was dropped, empty when it counts."""
    if entry.held is None:
        return ""
    return "it was dropped" if entry.held.dropped else "it is held: accept it first, or drop it"


def _why_not(manifest: SegmentManifest, log: Log) -> str:
    """Return why a segment cannot be made again, empty when it can."""
    origin = manifest.provenance
    if origin.topic_id and log.topic_id and origin.topic_id != log.topic_id:
        return f"topic {origin.topic} was made anew since it was cut"
    for source in origin.sources:
        if source.partition < 0:
            return "it holds pushed records, which are in no producers' topic"
        first, behind = log.bounds.get(source.partition, (0, 0))
        if source.start < first or source.end > behind:
            wanted = f"offsets {source.start} to {source.end - 1} of partition {source.partition}"
            return f"the log has {first} to {behind - 1}, and not {wanted}"
    return ""
