"""Labels that came later than their rows, where a segment is made again: the segment has them.

Which of its producers' records waited for their labels, and took part in another cut, is known by the segment alone:
ranges of several overlap. So it is made again of the rows that it has, each with the label that it got there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import INDEX, OFFSET, arrow_schema, lineage
from headrace_data.erasing import erased_rows
from headrace_data.manifest import SegmentManifest
from headrace_data.parts import BlobStore, read_columns
from headrace_data.spec import Pipeline

_Numbers = npt.NDArray[np.int64]


class KeptLabels:
    """The labels of one segment's rows, by where these came from. Holds about 24 bytes a row, and its label."""

    def __init__(
        self, manifest: SegmentManifest, pipeline: Pipeline, store: BlobStore, beat: Callable[[], None]
    ) -> None:
        """Read the labels. Raises DatasetInvalid for a damaged part."""
        self._label, self._schema = pipeline.stream.label.name, arrow_schema(pipeline.stream.fields)
        found: dict[int, list[pa.RecordBatch]] = {}
        for part in manifest.parts:
            beat()
            rows = read_columns(part, [self._label, OFFSET, INDEX], store)
            found.setdefault(part.partition, []).append(rows.filter(pa.array(~erased_rows(part))))
        tables = {partition: pa.Table.from_batches(each).combine_chunks() for partition, each in found.items()}
        self._places = {
            partition: _places(table[OFFSET].to_numpy(), table[INDEX].to_numpy()) for partition, table in tables.items()
        }
        self._labels = {partition: table[self._label].combine_chunks() for partition, table in tables.items()}

    def has(
        self, partition: int, offsets: _Numbers, indexes: Sequence[int] | _Numbers | None = None
    ) -> npt.NDArray[np.bool_]:
        """Tell of places in a partition whether the segment has a row of them; without `indexes` all are 0."""
        return self._found(partition, offsets, np.zeros(len(offsets), np.int64) if indexes is None else indexes)[1]

    def _found(
        self, partition: int, offsets: _Numbers, indexes: Sequence[int] | npt.NDArray[np.signedinteger]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Return where places stand among the segment's, and which of them do."""
        known = self._places.get(partition, _places(np.empty(0, np.int64), np.empty(0, np.int64)))
        places = _places(offsets, np.asarray(indexes))
        at = np.searchsorted(known, places)
        if not len(known):
            return at, np.zeros(len(places), np.bool_)
        return at, known[np.minimum(at, len(known) - 1)] == places

    def joined(self, batch: pa.RecordBatch, partition: int) -> pa.RecordBatch:
        """Return those rows of a partition that the segment has, with their labels."""
        _, offsets, indexes = lineage(batch)
        at, has = self._found(partition, offsets, indexes)
        rows = batch.filter(pa.array(has))
        columns = dict(zip(rows.schema.names, rows.columns, strict=True))
        if len(rows):
            own, labels = columns[self._label], self._labels[partition].take(pa.array(at[has]))
            columns[self._label] = pc.coalesce(own, labels.cast(own.type))
        return pa.RecordBatch.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)


def _places(offsets: _Numbers, indexes: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.void]:
    """Return places as values that are ordered as they are: by offset, then by index."""
    pairs = np.empty(len(offsets), dtype=[("offset", ">u8"), ("index", ">u4")])
    pairs["offset"], pairs["index"] = offsets, indexes
    return pairs.view("V12")
