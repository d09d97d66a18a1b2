"""Keys that come twice in a stream, in whichever partition: found when the rows of a cut are gathered.

The order of a stream's rows is that of its segments, and within one that of (producers' partition, offset, index). A
row is a duplicate when its key is among the last accepted keys before it in that order. So the same rows give the same
duplicates, however they were batched and in whichever order they were read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import NO_TIME, TIME, lineage, times_of
from headrace_data.cleaning import keys_of
from headrace_data.history import History
from headrace_data.key_digests import Digests
from headrace_data.key_ring import Numbers
from headrace_data.manifest import Part, SegmentManifest
from headrace_data.parts import BlobStore, read_columns
from headrace_data.seen_keys import SeenKeys, TimedKeys
from headrace_data.slices import left_out
from headrace_data.spec import Pipeline

AT_ONCE = 1 << 16
"""Keys that are looked at together, which bounds the memory that this takes."""

_NO_TIMES: Final[Numbers] = np.empty(0, np.int64)

_Place = tuple[int, int]
"""Offset and index of a row."""


class _Rows(NamedTuple):
    """Rows of one partition."""

    digests: Digests
    offsets: Numbers
    indexes: npt.NDArray[np.int32]
    times: Numbers

    def places(self, rows: Numbers) -> Iterable[_Place]:
        return zip(self.offsets[rows].tolist(), self.indexes[rows].tolist(), strict=True)


@dataclass(frozen=True)
class Duplicates:
    """Rows of a cut that have the key of a row before them."""

    places: dict[int, frozenset[_Place]]
    """Where they are, by producers' partition."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(map(len, self.places.values()))

    @cached_property
    def _offsets(self) -> dict[int, npt.NDArray[np.int64]]:
        return {
            partition: np.unique([offset for offset, _ in places]).astype(np.int64)
            for partition, places in self.places.items()
        }

    def among(self, batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """Return the positions of those that a batch holds."""
        partitions, offsets, indexes = lineage(batch)[:3]
        found: list[int] = []
        for partition in set(np.unique(partitions).tolist()) & self.places.keys():
            rows = np.flatnonzero((partitions == partition) & np.isin(offsets, self._offsets[partition]))
            places = zip(rows.tolist(), offsets[rows].tolist(), indexes[rows].tolist(), strict=True)
            wanted = self.places[partition]
            found += [row for row, offset, index in places if (offset, index) in wanted]
        return np.array(sorted(found), np.int64)


class Known(NamedTuple):
    """Keys that were accepted before a cut."""

    digests: Digests
    times: Numbers
    """Their event times, in microseconds; empty where the window is a number of keys."""


def newest_keys(
    history: History, pipeline: Pipeline, store: BlobStore, keep_alive: Callable[[], None] = lambda: None
) -> Iterable[Known]:
    """Return the keys of a stream's segments as far back as `duplicateWindow` reaches, or more, oldest first.

    The newest segments are read from their ends back, a part at a time, and of these the key alone. `keep_alive` is
    called for each part. Raises DatasetInvalid when a part is not what its manifest says.
    """
    field, wanted = pipeline.stream.key_field, pipeline.prepare.clean.duplicate_window
    if field is None:
        return ()
    if not isinstance(wanted, int):
        return _keys_since(history, pipeline, store, keep_alive)
    found: deque[Known] = deque()
    for entry in reversed(history.entries):
        for part in reversed(SegmentManifest.from_json(store.get(entry.manifest)).parts):
            if wanted <= 0:
                return found
            found.appendleft(Known(keys_of(_standing(part, [field.name], store), pipeline), _NO_TIMES))
            wanted -= part.rows
            keep_alive()
    return found


def _keys_since(
    history: History, pipeline: Pipeline, store: BlobStore, keep_alive: Callable[[], None]
) -> Iterator[Known]:
    """Yield the keys of each segment that the window reaches, in the order of their times."""
    field, window = pipeline.stream.key_field, pipeline.prepare.clean.duplicate_window
    clocks = list(accumulate((_or_none(entry.last_time) for entry in history.entries), max))
    for entry, clock in zip(history.entries, clocks, strict=True):
        # No key counts from later than the newest time of its segment and those before.
        if field is None or clock < clocks[-1] - round(window * 1_000_000):
            continue
        parts = SegmentManifest.from_json(store.get(entry.manifest)).parts
        digests, times = [], []
        for part in parts:
            rows = _standing(part, [field.name, TIME], store)
            digests.append(keys_of(rows, pipeline))
            times.append(times_of(rows))
            keep_alive()
        if parts:
            whole = np.concatenate(times)
            order = np.argsort(whole, kind="stable")
            yield Known(np.concatenate(digests)[order], whole[order])


def _standing(part: Part, names: Sequence[str], store: BlobStore) -> pa.RecordBatch:
    """Return columns of the rows of a segment's part that were not erased: of these there is no key."""
    rows = read_columns(part, names, store)
    return rows.filter(pa.array(~left_out(part))) if part.left_out else rows


def _or_none(time: int | None) -> int:
    return NO_TIME if time is None else time


NO_DUPLICATES: Final = Duplicates({})


class StreamKeys:
    """The keys of the rows of one cut. Holds 28 bytes for each row, and 36 where the window is a time.

    Where it is, the rows of a cut are taken in the order of their times: a partition may be read to its end before
    another is begun.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._window = pipeline.prepare.clean.duplicate_window
        self._parts: dict[int, list[_Rows]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows; those of one producers' partition come in the order of (offset, index)."""
        digests = keys_of(batch, self._pipeline)
        times = _NO_TIMES if isinstance(self._window, int) else times_of(batch)
        partitions, offsets, indexes = lineage(batch)[:3]
        for partition in np.unique(partitions).tolist():
            rows = partitions == partition
            found = _Rows(digests[rows], offsets[rows], indexes[rows], times[rows] if len(times) else times)
            self._parts.setdefault(partition, []).append(found)

    def duplicates(self, before: Iterable[Known] = ()) -> Duplicates:
        """Return the rows that are duplicates, and forget all rows.

        `before` are the last accepted keys of the stream before the cut, oldest first: a window of them, or all.
        """
        found = self._by_number(before) if isinstance(self._window, int) else self._by_time(before)
        return Duplicates({partition: frozenset(places) for partition, places in found.items()})

    def _by_number(self, before: Iterable[Known]) -> dict[int, list[_Place]]:
        seen = SeenKeys(int(self._window))
        for known in before:
            seen.remember(known.digests)
        found: dict[int, list[_Place]] = {}
        for partition in sorted(self._parts):
            for rows in self._parts.pop(partition):
                for start in range(0, len(rows.digests), AT_ONCE):
                    again = np.flatnonzero(~seen.accept(rows.digests[start : start + AT_ONCE])) + start
                    seen.commit()
                    if len(again):
                        found.setdefault(partition, []).extend(rows.places(again))
        return found

    def _by_time(self, before: Iterable[Known]) -> dict[int, list[_Place]]:
        seen = TimedKeys(round(self._window * 1_000_000))
        for known in before:
            seen.remember(known.digests, known.times)
        found: dict[int, list[_Place]] = {}
        parts = [(partition, rows) for partition in sorted(self._parts) for rows in self._parts[partition]]
        self._parts.clear()
        if not parts:
            return found
        partitions = np.repeat([partition for partition, _ in parts], [len(rows.digests) for _, rows in parts])
        rows = _Rows(*map(np.concatenate, zip(*(each for _, each in parts), strict=True)))
        order = np.argsort(rows.times, kind="stable")
        for start in range(0, len(order), AT_ONCE):
            some = order[start : start + AT_ONCE]
            again = some[~seen.accept(rows.digests[some], rows.times[some])]
            for partition, place in zip(partitions[again].tolist(), rows.places(again), strict=True):
                found.setdefault(partition, []).append(place)
        return found


def duplicates_of(
    rows: Iterable[pa.RecordBatch], pipeline: Pipeline, before: Callable[[], Iterable[Known]] = tuple
) -> Duplicates:
    """Return the duplicates among the rows of a cut; none, and nothing is read, where they are not dropped at a cut.

    `before` returns the last accepted keys before the cut, oldest first. The rows are read to their end: which one of
    two comes first is known only once all partitions are.
    """
    if not pipeline.drops_over_stream:
        return NO_DUPLICATES
    keys = StreamKeys(pipeline)
    for batch in rows:
        keys.add(batch)
    return keys.duplicates(before())
