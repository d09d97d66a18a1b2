"""`overflow`: a float64 that a pipeline cannot work out anything beside.

It is larger in size than `LARGEST_FLOAT64`, which records are checked for when they come in, and rows of before that
check were not; or than `LARGEST_SQUARED` where its field is a label, is scaled `standard` or filled by a `mean`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import elements
from headrace_data.columns import LARGEST_FLOAT64, LARGEST_SQUARED
from headrace_data.records import Rejection
from headrace_data.spec import Clean, Field, Pipeline

OVERFLOW: Final = "overflow"


def rows_beyond(
    batch: pa.RecordBatch, fields: Sequence[Field], _rules: Clean, squared: Collection[str]
) -> Iterator[Rejection]:
    """Yield the rows with such a value."""
    for field in fields:
        if field.type != "float64":
            continue
        largest = LARGEST_SQUARED if field.name in squared else LARGEST_FLOAT64
        beyond = np.abs(elements(batch, field)) > largest
        beyond &= pc.is_valid(batch.column(field.name)).to_numpy(zero_copy_only=False)[:, np.newaxis]
        for position in np.flatnonzero(beyond.any(axis=1)):
            value = elements(batch.slice(int(position), 1), field)[0][beyond[position]][0].item()
            reason = f"{field.name}: expected a value of at most {largest:g} in size, got {value}"
            yield Rejection(int(position), OVERFLOW, field.name, reason)


def squared_fields(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the names of the float64 fields whose values are squared: labels, and what needs a mean or deviation."""
    return tuple(
        field.name
        for field in pipeline.stream.fields
        if field.type == "float64"
        and (
            field.role == "label"
            or (each := pipeline.transform(field.name)).kind_of(field.type) in ("standard", "winsorize")
            or each.impute == "mean"
        )
    )
