"""The rows of a new segment as a version takes them that has learned from none of them yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy.typing as npt

from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, SegmentManifest, Slice, SplitParts
from headrace_data.parts import BlobStore
from headrace_data.slices import reading_of
from headrace_data.spec import Field, Pipeline
from headrace_data.split import SPLITS

_MOST_BYTES: Final = 64 * 2**20
"""What a piece may take in memory, about."""
Array = npt.NDArray[Any]


class Unseen:
    """All rows of a segment, whatever their split, in canonical order. They may be iterated again and again."""

    def __init__(
        self,
        segment: SegmentManifest,
        learned: Manifest,
        pipeline: Pipeline,
        store: BlobStore,
        beside: Sequence[Field] = (),
        *,
        grouped: bool = False,
    ) -> None:
        """`learned` is the dataset of the version: its schema and transforms tell how features are given.

        The pipeline's rules tell which rows count, where the segment was cut under others. `beside` and `grouped` are
        as `DatasetReader` takes them.
        """
        cut_under = (segment.schema_digest, segment.prepare_digest)
        strict = cut_under != (pipeline.schema_digest, pipeline.prepare_digest)
        whole = Slice(segment_id=segment.segment_id, parts=segment.parts, strict=strict)
        # How many rows are in which split is neither known nor asked for.
        splits = {name: SplitParts(rows=0) for name in SPLITS}
        taken = {"slices": (whole,), "reading": reading_of(pipeline), "splits": splits}
        self._reader = DatasetReader(learned.model_copy(update=taken), store, beside, grouped=grouped)

    def __iter__(self) -> Iterator[tuple[dict[str, Array], Array]]:
        """Yield features and labels, as `DatasetReader.columns` has them. Raises DatasetInvalid as it."""
        most = max(_MOST_BYTES // self._reader.row_bytes, 1)
        for _, batch in self._reader.rows():
            for start in range(0, len(batch), most):
                columns = self._reader.arrays(batch.slice(start, most))
                truth = columns.pop(self._reader.manifest.label.name)
                yield columns, truth
