"""`missing`: a field has no value, being null or a blank text, and the pipeline wants one of it, or one of several."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import blank
from headrace_data.records import Rejection
from headrace_data.spec import Clean, Field

MISSING: Final = "missing"


def rows_without(
    batch: pa.RecordBatch, fields: Sequence[Field], rules: Clean, _squared: Collection[str]
) -> Iterator[Rejection]:
    """Yield the rows that lack a value which they must have; a row is told of by the first field that it lacks."""
    wanted = rules.missing
    if isinstance(wanted, str):
        if wanted == "drop":
            yield from _lacking(batch, fields)
        return
    yield from _lacking(batch, [field for field in fields if field.name in (wanted.any or ())])
    if names := wanted.all:
        nothing = np.logical_and.reduce([_gaps(batch, field) for field in fields if field.name in names])
        reason = f"expected a value of {' or '.join(names)}, got none"
        for position in np.flatnonzero(nothing):
            yield Rejection(int(position), MISSING, names[0], reason)


def _lacking(batch: pa.RecordBatch, fields: Sequence[Field]) -> Iterator[Rejection]:
    for field in fields:
        if batch.column(field.name).null_count or field.type == "string":
            reason = f"{field.name}: expected a value, got none"
            for position in np.flatnonzero(_gaps(batch, field)):
                yield Rejection(int(position), MISSING, field.name, reason)


def _gaps(batch: pa.RecordBatch, field: Field) -> npt.NDArray[np.bool_]:
    """Return which rows have no value of a field."""
    column = batch.column(field.name)
    missing = pc.or_kleene(column.is_null(), blank(column)) if field.type == "string" else column.is_null()
    gaps: npt.NDArray[np.bool_] = missing.to_numpy(zero_copy_only=False)
    return gaps
