"""Cleaning: which rows of a batch a dataset may have.

A row is kept as it came, or dropped; no value is changed but what the pipeline masks in texts.

The rules, in this order; a row is counted under the first that it breaks:

- `overflow`: a float64 is larger in size than `LARGEST_FLOAT64`, which records are checked for when they come in, and
  rows of before that check were not; or than `LARGEST_SQUARED` where its field is a label, is scaled `standard` or
  filled by a `mean`;
- `missing`: a nullable field is null, or a text blank;
- `outOfRange`: a value lies outside its field's range;
- `personal`: a text holds personal data that the pipeline rejects;
- `duplicates`: the row's key is among the last accepted keys.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import arrow_schema, blank, elements, require_columns
from headrace_data.columns import LARGEST_FLOAT64, LARGEST_SQUARED
from headrace_data.key_digests import Digests, key_digests
from headrace_data.personal import masked, rejections
from headrace_data.records import Rejection
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Clean, Field, Pipeline
from headrace_data.spec.scalars import format_duration

OVERFLOW: Final = "overflow"
MISSING: Final = "missing"
OUT_OF_RANGE: Final = "outOfRange"
DUPLICATES: Final = "duplicates"


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
    whole, rules = _joined(batches, pipeline.stream.fields), pipeline.prepare.clean
    dropped = broken(whole, pipeline.stream.fields, rules, squared_fields(pipeline))
    if rules.remembered and pipeline.stream.key_field is not None:
        _drop(dropped, _duplicates(whole, pipeline.stream.key_field, dropped, seen))
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
    _drop(dropped, too_large(batch, fields, squared))
    if rules.missing == "drop":
        _drop(dropped, _missing(batch, fields))
    if rules.out_of_range == "drop":
        _drop(dropped, _out_of_range(batch, fields))
    _drop(dropped, rejections(batch, rules.personal))
    return dropped


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


def too_large(batch: pa.RecordBatch, fields: Iterable[Field], squared: Collection[str]) -> Iterator[Rejection]:
    """Yield the rows of a batch with a float64 that a pipeline cannot scale anything beside."""
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


def duplicate_in_stream(position: int, pipeline: Pipeline) -> Rejection:
    """Return why a row is dropped whose key another row of the stream has. Raises ValueError without a key."""
    field, window = pipeline.stream.key_field, pipeline.prepare.clean.duplicate_window
    if field is None:
        raise ValueError(f"pipeline {pipeline.name!r}: expected a key, got none")
    among = f"among the last {window}" if isinstance(window, int) else f"of the last {format_duration(window)}"
    reason = f"{field.name}: expected a new key, got one that is {among} of the stream"
    return Rejection(position, DUPLICATES, field.name, reason)


def keys_of(batch: pa.RecordBatch, pipeline: Pipeline) -> Digests:
    """Return the digests of the keys of a batch's rows, in order; none when the pipeline's records have no identity."""
    field = pipeline.stream.key_field
    return key_digests(pa.array([], pa.string()) if field is None else batch.column(field.name))


def _drop(dropped: dict[int, Rejection], rejections: Iterable[Rejection]) -> None:
    for rejection in rejections:
        dropped.setdefault(rejection.position, rejection)


def _missing(batch: pa.RecordBatch, fields: Iterable[Field]) -> Iterator[Rejection]:
    for field in fields:
        column = batch.column(field.name)
        is_text = field.type == "string"
        if not (column.null_count or is_text):
            continue
        missing = pc.or_kleene(column.is_null(), blank(column)) if is_text else column.is_null()
        reason = f"{field.name}: expected a value, got none"
        for position in np.flatnonzero(missing.to_numpy(zero_copy_only=False)):
            yield Rejection(int(position), MISSING, field.name, reason)


def _out_of_range(batch: pa.RecordBatch, fields: Iterable[Field]) -> Iterator[Rejection]:
    for field in fields:
        if field.range is None:
            continue
        low, high = field.range
        values = elements(batch, field)
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


def _duplicates(
    batch: pa.RecordBatch, field: Field, dropped: dict[int, Rejection], seen: SeenKeys
) -> Iterator[Rejection]:
    reason = f"{field.name}: expected a new key, got one that is among the last {seen.window}"
    # Rows that were dropped already leave no key behind: a sound row with their key may follow.
    rows, digests = np.arange(len(batch)), key_digests(batch.column(field.name))
    if dropped:
        rows = np.delete(rows, list(dropped))
        digests = digests[rows]
    for position in rows[~seen.accept(digests)].tolist():
        yield Rejection(position, DUPLICATES, field.name, reason)
