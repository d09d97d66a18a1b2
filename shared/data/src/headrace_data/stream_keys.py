"""Keys that come twice in a stream, in whichever partition: found when the rows of a cut are gathered.

The order of a stream's rows is that of its segments, and within one that of (producers' partition, offset, index). A
row is a duplicate when its key is among the last accepted keys before it in that order. So the same rows give the same
duplicates, however they were batched and in whichever order they were read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import lineage
from headrace_data.cleaning import keys_of
from headrace_data.history import History
from headrace_data.key_digests import Digests, key_digests
from headrace_data.manifest import SegmentManifest
from headrace_data.parts import BlobStore, read_column
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Pipeline

AT_ONCE = 1 << 16
"""Keys that are looked at together, which bounds the memory that this takes."""

_Place = tuple[int, int]
"""Offset and index of a row."""


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


def newest_keys(
    history: History, pipeline: Pipeline, store: BlobStore, keep_alive: Callable[[], None] = lambda: None
) -> Iterable[Digests]:
    """Return at least the last `duplicateWindow` keys of a stream's segments, oldest first; all there are if less.

    The newest segments are read from their ends back, a part at a time, and of these the key alone. `keep_alive` is
    called for each part. Raises DatasetInvalid when a part is not what its manifest says.
    """
    field, wanted = pipeline.stream.key_field, pipeline.prepare.clean.duplicate_window
    found: deque[Digests] = deque()
    if field is None:
        return found
    for entry in reversed(history.entries):
        for part in reversed(SegmentManifest.from_json(store.get(entry.manifest)).parts):
            if wanted <= 0:
                return found
            found.appendleft(key_digests(read_column(part, field, store)))
            wanted -= part.rows
            keep_alive()
    return found


NO_DUPLICATES: Final = Duplicates({})


class StreamKeys:
    """The keys of the rows of one cut. Holds 28 bytes for each row."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._parts: dict[int, list[tuple[Digests, npt.NDArray[np.int64], npt.NDArray[np.int32]]]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows; those of one producers' partition come in the order of (offset, index)."""
        digests = keys_of(batch, self._pipeline)
        partitions, offsets, indexes = lineage(batch)[:3]
        for partition in np.unique(partitions).tolist():
            rows = partitions == partition
            self._parts.setdefault(partition, []).append((digests[rows], offsets[rows].copy(), indexes[rows].copy()))

    def duplicates(self, before: Iterable[Digests] = ()) -> Duplicates:
        """Return the rows that are duplicates, and forget all rows.

        `before` are the last accepted keys of the stream before the cut, oldest first: a window of them, or all.
        """
        seen = SeenKeys(self._pipeline.prepare.clean.duplicate_window)
        for digests in before:
            seen.remember(digests)
        places: dict[int, frozenset[_Place]] = {}
        for partition in sorted(self._parts):
            found: list[_Place] = []
            for digests, offsets, indexes in self._parts.pop(partition):
                for start in range(0, len(digests), AT_ONCE):
                    again = np.flatnonzero(~seen.accept(digests[start : start + AT_ONCE])) + start
                    seen.commit()
                    found += zip(offsets[again].tolist(), indexes[again].tolist(), strict=True)
            if found:
                places[partition] = frozenset(found)
        return Duplicates(places)
