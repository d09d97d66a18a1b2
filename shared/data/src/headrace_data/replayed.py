"""Rows of a pipeline's recent past, on which versions are held against each other as if they had met them.

Segments that are held or were dropped are passed over, as by windows.
Of segments that come after all that the versions learned from, every row counts. Of earlier ones only those of the test
split do: the split is a property of the row, so no version with the same rule learned from any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy.typing as npt

from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetUnusable
from headrace_data.history import Entry, History
from headrace_data.manifest import Bound, Manifest, SegmentManifest, Slice, SplitParts
from headrace_data.parts import BlobStore
from headrace_data.slices import reaches, reading_of
from headrace_data.spec import Field, Pipeline
from headrace_data.split import SPLITS, SplitName

_MOST_BYTES: Final = 64 * 2**20
"""What a piece may take in memory, about."""
Array = npt.NDArray[Any]


class Replayed:
    """These rows, in canonical order. They may be iterated again and again."""

    def __init__(
        self,
        history: History,
        learned: Sequence[Manifest],
        pipeline: Pipeline,
        last_s: float,
        store: BlobStore,
        beside: Sequence[Field] = (),
        *,
        grouped: bool = False,
    ) -> None:
        """`learned` are the datasets of the versions: the first one's schema and transforms say how features are.

        The rows go back `last_s` from the latest event time of all of the pipeline's, as windows do. `beside` and
        `grouped` are as `DatasetReader` takes them. Raises DatasetUnusable where no row has such a time.
        """
        history, clock = history.counting, pipeline.stream.time or ""
        watermark = history.watermark_of(clock)
        if watermark is None:
            raise DatasetUnusable("expected rows with an event time to go back from, got none")
        self.until_us = watermark
        self.since_us = watermark - round(last_s * 1_000_000)
        self.unseen_rows = 0
        """Of the last iteration: rows of segments that no version has learned from."""
        self._first_unseen = _first_unseen(history, learned)
        self._taken = [
            (place, entry)
            for place, entry in enumerate(history.entries)
            if entry.clock == clock and entry.last_time is not None and entry.last_time >= self.since_us
        ]
        self._learned, self._pipeline, self._store = learned[0], pipeline, store
        self._beside, self._grouped = beside, grouped

    @property
    def segments(self) -> int:
        """How many segments the rows are of."""
        return len(self._taken)

    def __iter__(self) -> Iterator[tuple[dict[str, Array], Array]]:
        """Yield features and labels, as `DatasetReader.columns` has them. Raises DatasetInvalid as it."""
        self.unseen_rows = 0
        for place, entry in self._taken:
            unseen = place >= self._first_unseen
            splits: Sequence[SplitName] = SPLITS if unseen else ("test",)
            for columns, truth in self._rows(entry, splits):
                self.unseen_rows += len(truth) if unseen else 0
                yield columns, truth

    def _rows(self, entry: Entry, splits: Sequence[SplitName]) -> Iterator[tuple[dict[str, Array], Array]]:
        reader = self._reader(SegmentManifest.from_json(self._store.get(entry.manifest)))
        most = max(_MOST_BYTES // reader.row_bytes, 1)
        for _, batch in reader.rows(splits):
            for start in range(0, len(batch), most):
                columns = reader.arrays(batch.slice(start, most))
                truth = columns.pop(reader.manifest.label.name)
                if len(truth):
                    yield columns, truth

    def _reader(self, segment: SegmentManifest) -> DatasetReader:
        pipeline, since = self._pipeline, Bound(time=self.since_us)
        cut_under = (segment.schema_digest, segment.prepare_digest)
        taken = Slice(
            segment_id=segment.segment_id,
            parts=tuple(part for part in segment.parts if reaches(part, since)),
            since=since,
            strict=cut_under != (pipeline.schema_digest, pipeline.prepare_digest),
        )
        # How many rows are in which split is neither known nor asked for.
        splits = {name: SplitParts(rows=0) for name in SPLITS}
        update = {"slices": (taken,), "reading": reading_of(pipeline), "splits": splits}
        return DatasetReader(self._learned.model_copy(update=update), self._store, self._beside, grouped=self._grouped)


def _first_unseen(history: History, learned: Sequence[Manifest]) -> int:
    """Return the place of the first segment behind all that was learned from; behind all where nobody can tell."""
    if any(manifest.reading is None for manifest in learned):
        return len(history.entries)
    seen = {taken.segment_id for manifest in learned for taken in manifest.slices}
    places = [place for place, entry in enumerate(history.entries) if entry.segment_id in seen]
    return max(places) + 1 if places else len(history.entries)
