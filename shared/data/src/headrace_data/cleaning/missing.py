"""`missing`: a nullable field is null, or a text blank."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import blank
from headrace_data.records import Rejection
from headrace_data.spec import Clean, Field

MISSING: Final = "missing"


def rows_without(
    batch: pa.RecordBatch, fields: Sequence[Field], rules: Clean, _squared: Collection[str]
) -> Iterator[Rejection]:
    """Yield the rows that lack a value."""
    if rules.missing == "keep":
        return
    for field in fields:
        column = batch.column(field.name)
        is_text = field.type == "string"
        if not (column.null_count or is_text):
            continue
        missing = pc.or_kleene(column.is_null(), blank(column)) if is_text else column.is_null()
        reason = f"{field.name}: expected a value, got none"
        for position in np.flatnonzero(missing.to_numpy(zero_copy_only=False)):
            yield Rejection(int(position), MISSING, field.name, reason)
