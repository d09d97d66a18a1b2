"""`outOfRange`: a value lies outside its field's range."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import elements
from headrace_data.records import Rejection
from headrace_data.spec import Clean, Field

OUT_OF_RANGE: Final = "outOfRange"


def rows_outside(
    batch: pa.RecordBatch, fields: Sequence[Field], rules: Clean, _squared: Collection[str]
) -> Iterator[Rejection]:
    """Yield the rows with a value outside of its range; of an array the first such element is told of."""
    if rules.out_of_range == "keep":
        return
    for field in fields:
        if field.range is None:
            continue
        low, high = field.range
        values = elements(batch, field)
        if len(values) and values.min() >= low and values.max() <= high:
            continue
        # Or null, or no number at all.
        outside = (values < low) | (values > high)
        outside &= pc.is_valid(batch.column(field.name)).to_numpy(zero_copy_only=False)[:, np.newaxis]
        for position in np.flatnonzero(outside.any(axis=1)):
            yield _outside(field, int(position), values[position], outside[position])


def _outside(field: Field, position: int, values: npt.NDArray[np.generic], outside: npt.NDArray[np.bool_]) -> Rejection:
    low, high = field.range or (0, 0)
    first = int(np.argmax(outside))
    where = f"element {first}: " if field.shape else ""
    reason = f"{field.name}: {where}expected {low} to {high}, got {values[first].item()}"
    return Rejection(position, OUT_OF_RANGE, field.name, reason)
