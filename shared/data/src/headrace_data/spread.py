"""How the values of a pipeline's numbers are spread: the same few rows of all fields, of every split.

What is compared with other rows needs the order of values, also of fields that no transform needs it of. A small sample
of rows is enough: how far two are apart by chance is known from their sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import elements, lineage
from headrace_data.sampling import Ranks, RowSample, ranks_of
from headrace_data.spec import Field, Pipeline
from headrace_data.tasks import TASKS

MOST_ROWS: Final = 1024
"""Rows that are kept, where they are not too wide."""
FEWEST_ROWS: Final = 256
MOST_VALUES: Final = 2**14
"""How many values are kept of all fields together: 128 KiB of float64, which each window reads."""
MOST_ELEMENTS: Final = 16
"""How many elements of a field with a shape are looked at: they are spread evenly over it."""
MOST_COLUMNS: Final = 1024
"""How many elements are looked at of all fields together; at least one of each."""


def watched_numbers(pipeline: Pipeline) -> Sequence[Field]:
    """Return the fields whose numbers are looked at: features, and a label that is no class."""
    is_class = TASKS[pipeline.task].counts_labels
    return [
        field
        for field in pipeline.stream.fields
        if field.type != "string" and (field.role == "feature" or (field.role == "label" and not is_class))
    ]


class Spread:
    """A sample of rows: bottom-k by where they came from, as `RowSample` has it. Merges; bounded in memory."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._fields = watched_numbers(pipeline)
        most = max(1, min(MOST_ELEMENTS, MOST_COLUMNS // max(len(self._fields), 1)))
        self._chosen = {field.name: _evenly(field.size, most) for field in self._fields}
        columns = sum(len(chosen) for chosen in self._chosen.values())
        self._capacity = max(FEWEST_ROWS, min(MOST_ROWS, MOST_VALUES // max(columns, 1)))
        self.sample = RowSample(self._capacity)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows."""
        if not self._fields:
            return
        ranks = ranks_of(*lineage(batch))
        kept = np.flatnonzero(ranks <= np.uint32(self.sample.highest))
        if len(kept) > self._capacity:
            kept = kept[np.argpartition(ranks[kept], self._capacity - 1)[: self._capacity]]
        if not len(kept):
            return
        values = np.concatenate([self._values(batch, field, kept) for field in self._fields], axis=1)
        self.sample.add(values, ranks[kept])

    def _values(self, batch: pa.RecordBatch, field: Field, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return the chosen elements of some rows; not-a-number where the field is null."""
        values = elements(batch, field)[np.ix_(rows, self._chosen[field.name])].astype(np.float64)
        column = batch.column(field.name)
        if column.null_count:
            values[~column.is_valid().to_numpy(zero_copy_only=False)[rows]] = np.nan
        return values

    def merge(self, other: Spread) -> None:
        """Take in the rows of another one of the same pipeline."""
        self.sample.merge(other.sample)

    def settle(self, highest: int, ranks: Ranks, values: npt.NDArray[np.float64]) -> None:
        """Begin with what `sample.kept` returned. Raises ValueError when it is of other fields."""
        columns = sum(len(chosen) for chosen in self._chosen.values())
        if values.shape != (len(ranks), columns):
            raise ValueError(f"expected a sample of {columns} columns, got {values.shape}")
        self.sample = RowSample.restored(self._capacity, highest, ranks, values)

    def of(self, name: str) -> npt.NDArray[np.float64]:
        """Return the values of a field, shape [rows, elements], without rows in which it is missing."""
        chosen = [len(each) for each in self._chosen.values()]
        place = list(self._chosen).index(name)
        start = sum(chosen[:place])
        if not self.sample.rows:
            return np.empty((0, chosen[place]))
        values = self.sample.values()[:, start : start + chosen[place]]
        return values[~np.isnan(values).any(axis=1)]

    @property
    def names(self) -> Sequence[str]:
        """Names of the fields."""
        return list(self._chosen)


def _evenly(size: int, most: int) -> npt.NDArray[np.intp]:
    return np.linspace(0, size - 1, min(size, most)).round().astype(np.intp)
