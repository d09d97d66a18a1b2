"""The splits that a run learns from: read into memory, or streamed where they are too large for that."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from headrace_data.batches import elements
from headrace_data.dataset import DatasetReader
from headrace_data.spec import Field
from headrace_data.split import SplitName
from headrace_data.tasks import Labels
from headrace_learning.graphs import Array, Columns
from headrace_learning.training.rows import Rows, Source, StreamedRows, joined

from headrace_trainer.core.memory import Memory
from headrace_trainer.core.precision import EXACT
from headrace_trainer.core.summary import Summary

_NUMBER_BYTES = 4


class Splits:
    """The training and the validation split of a dataset."""

    def __init__(self, reader: DatasetReader, shape: Sequence[int], memory: Memory) -> None:
        """`shape` is that of one prepared row."""
        self._reader = reader
        self._row_bytes = _NUMBER_BYTES * math.prod(shape)
        self._memory = memory
        self._in_memory = memory.holds(self.rows, reader.row_bytes, self._row_bytes)
        self._training: Columns | None = None

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the training and of the validation split."""
        splits = self._reader.manifest.splits
        return splits["train"].rows, splits["validation"].rows

    @property
    def held_bytes(self) -> int:
        """What prepared rows take of memory all the time."""
        training, validation = (rows * self._row_bytes for rows in self.rows)
        if self._in_memory:
            return training + validation
        if self._reader.grouped:
            return 2 * training + validation  # the pieces that it came in are there until they are joined
        return min(training, self._memory.buffer_bytes) + (validation if self._holds_validation else 0)

    def summary(self, labels: Labels, *, whole: bool) -> Summary:
        """Return what must be known of the training split before anything is learned, and add its labels to `labels`.

        Raises TooManyDigits.
        """
        reader = self._reader
        summary = Summary(reader.manifest.features, reader.manifest.label, labels, whole=whole)
        if self._in_memory:
            # Kept until `source` prepares it.
            self._training = columns = reader.columns("train")
            summary.add(columns, lambda field: _sent(reader, field, columns[field.name]))
        else:
            for group in (group for part in reader.parts("train") for group in part() if len(group)):
                summary.add(reader.arrays(group), partial(_whole_numbers, [group]))
        summary.require_digits()
        return summary

    def source(self, split: SplitName, prepare: Callable[[Columns], Rows]) -> Source:
        """Return a split's prepared rows. The training split comes first: what was read of it is given up."""
        reader = self._reader
        if self._in_memory:
            columns, self._training = self._training, None
            return prepare(reader.columns(split) if columns is None else columns)

        def prepared(group: pa.RecordBatch) -> Rows:
            return prepare(reader.encoded(group))

        rows = reader.manifest.splits[split].rows
        streamed = StreamedRows(reader.parts(split), prepared, rows, self._row_bytes, self._memory.buffer_bytes)
        # Rows of one group come from anywhere in a stream: only in memory are they brought together.
        held = self._reader.grouped or (split == "validation" and self._holds_validation)
        return joined(streamed.chunks()) if held else streamed

    @property
    def _holds_validation(self) -> bool:
        return self.rows[1] * self._row_bytes <= self._memory.validation_bytes


def _sent(reader: DatasetReader, field: Field, values: Array) -> Array:
    """Return a field's values as they were sent: whole numbers that may be missing are float64 in `values`."""
    if field.type != "int64" or values.dtype == np.int64 or not (np.abs(values) > EXACT).any():
        return values
    return _whole_numbers(reader.batches("train"), field)


def _whole_numbers(batches: Iterable[pa.RecordBatch], field: Field) -> Array:
    """Return the values of a field that are there, of int64; none of another type."""
    if field.type != "int64":
        return np.empty(0)
    valid = (batch.filter(batch.column(field.name).is_valid()) for batch in batches)
    return np.concatenate([elements(batch, field) for batch in valid])
