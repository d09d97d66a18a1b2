"""What a cleaning rule is that looks at one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import pyarrow as pa

from headrace_data.records import Rejection
from headrace_data.spec import Clean, Field

RowRule = Callable[[pa.RecordBatch, Sequence[Field], Clean, Collection[str]], Iterable[Rejection]]
"""Of a batch, its fields, what the pipeline says and the fields whose values are squared (`squared_fields`) the rows
that break the rule, in any order. Whether a row does depends on nothing but the row: so it may be looked at again under
other rules, and batches may be cut anywhere."""
