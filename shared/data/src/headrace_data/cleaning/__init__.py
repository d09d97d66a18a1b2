"""Cleaning: which rows of a batch a dataset may have.

A row is kept as it came, or dropped; no value is changed but what the pipeline masks in texts. Each rule is a file. A
row is counted under the first rule that it breaks, in the order of `RULES`, and `duplicates` come last: what is broken
already leaves no key behind.

What is known of a row only beside others, when a dataset is made, is in `near` and `repeats`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa

from headrace_data.batches import arrow_schema, require_columns
from headrace_data.cleaning.duplicates import DUPLICATES, duplicate_in_stream, keys_of, repeated_rows
from headrace_data.cleaning.missing import MISSING, rows_without
from headrace_data.cleaning.out_of_range import OUT_OF_RANGE, rows_outside
from headrace_data.cleaning.overflow import OVERFLOW, rows_beyond, squared_fields
from headrace_data.cleaning.rule import RowRule
from headrace_data.cleaning.where import WHERE, rows_where_not
from headrace_data.personal import RULE as PERSONAL
from headrace_data.personal import masked, rejections
from headrace_data.records import Rejection
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Clean, Field, Pipeline

__all__ = (
    "DUPLICATES",
    "RULES",
    "Cleaned",
    "broken",
    "clean",
    "clean_all",
    "duplicate_in_stream",
    "keys_of",
    "squared_fields",
)

RULES: Final[Mapping[str, RowRule]] = {
    OVERFLOW: rows_beyond,
    MISSING: rows_without,
    OUT_OF_RANGE: rows_outside,
    WHERE: rows_where_not,
    PERSONAL: lambda batch, _fields, rules, _squared: rejections(batch, rules.personal),
}
"""The rules that look at a row alone, in the order in which they count."""


@dataclass(frozen=True)
class Cleaned:
    """The rows that may be learned from, and why the others may not."""

    batch: pa.RecordBatch
    dropped: list[Rejection]
    """One per dropped row, by position in the batch that was given."""
    counts: dict[str, int]
    """Dropped rows by rule; only rules that dropped any."""
    masked: Mapping[str, int]
    """What was masked in the texts of the others, by kind of personal data."""


def clean(batch: pa.RecordBatch, pipeline: Pipeline, seen: SeenKeys) -> Cleaned:
    """Return the rows of a batch that the pipeline's cleaning rules leave, in order.

    The keys of these rows are added to `seen`, to be committed or taken back. The result does not depend on how rows
    are divided into batches. Raises BatchInvalid when the batch has not the stream's columns.
    """
    (cleaned,) = clean_all([batch], pipeline, seen)
    return cleaned


def clean_all(batches: Sequence[pa.RecordBatch], pipeline: Pipeline, seen: SeenKeys) -> list[Cleaned]:
    """Return what `clean` returns for each of these batches in turn, at the cost of one with all of their rows."""
    if not batches:
        return []
    stream, rules = pipeline.stream, pipeline.prepare.clean
    whole = _joined(batches, stream.incoming.fields)
    if stream.labels is None:
        dropped = broken(whole, stream.fields, rules, squared_fields(pipeline))
    else:
        # Labels, and conditions that may read them, are looked at once they are there: when a dataset is cut.
        fields = [field for field in stream.fields if field.role != "label"]
        dropped = broken(whole, fields, rules.model_copy(update={"where": ()}), squared_fields(pipeline))
    if rules.remembered and pipeline.stream.key_field is not None:
        _drop(dropped, repeated_rows(whole, pipeline.stream.key_field, dropped, seen))
    positions, cleaned, start = sorted(dropped), list[Cleaned](), 0
    for batch in batches:
        first, last = bisect_left(positions, start), bisect_left(positions, start + len(batch))
        own = [
            replace(each, position=each.position - start) for each in map(dropped.__getitem__, positions[first:last])
        ]
        cleaned.append(_masked(_without(batch, own), rules))
        start += len(batch)
    return cleaned


def _joined(batches: Sequence[pa.RecordBatch], fields: Sequence[Field]) -> pa.RecordBatch:
    """Return the rows of all batches as one. Raises BatchInvalid when one has not the columns of these fields."""
    if len(batches) > 1:
        schema, alike = arrow_schema(fields), list[pa.RecordBatch]()
        for batch in batches:
            if batch.schema != schema:
                # Of before one of the fields could be null: the same types under another schema.
                require_columns(batch, fields)
                batch = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
            alike.append(batch)
        batches = [pa.concat_batches(alike)]
    require_columns(batches[0], fields)
    return batches[0]


def _without(batch: pa.RecordBatch, dropped: list[Rejection]) -> Cleaned:
    if not dropped:
        return Cleaned(batch, [], {}, {})
    kept = np.ones(len(batch), dtype=np.bool_)
    kept[[rejection.position for rejection in dropped]] = False
    counts = Counter(rejection.rule for rejection in dropped)
    return Cleaned(batch.filter(pa.array(kept)), dropped, dict(sorted(counts.items())), {})


def _masked(cleaned: Cleaned, rules: Clean) -> Cleaned:
    batch, counts = masked(cleaned.batch, rules.personal)
    return replace(cleaned, batch=batch, masked=counts) if counts else cleaned


def broken(
    batch: pa.RecordBatch, fields: Iterable[Field], rules: Clean, squared: Collection[str]
) -> dict[int, Rejection]:
    """Return the rows that break a rule which looks at a row alone, by position; `squared` as of `squared_fields`."""
    fields, dropped = list(fields), dict[int, Rejection]()
    for rule in RULES.values():
        _drop(dropped, rule(batch, fields, rules, squared))
    return dropped


def _drop(dropped: dict[int, Rejection], rejections: Iterable[Rejection]) -> None:
    for rejection in rejections:
        dropped.setdefault(rejection.position, rejection)
