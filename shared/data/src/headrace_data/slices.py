"""Slices: rows read from the parts of a segment, as the dataset that takes them has them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import NO_TIME, lineage, times_of
from headrace_data.cleaning import broken, squared_fields
from headrace_data.errors import DatasetInvalid
from headrace_data.manifest import Bound, Part, Reading, Slice
from headrace_data.parts import BlobStore, read_part
from headrace_data.personal import masked
from headrace_data.spec import Field, Pipeline
from headrace_data.split import assign_splits

Mask = npt.NDArray[np.bool_]


def reading_of(pipeline: Pipeline) -> Reading:
    """Return how a pipeline reads the rows of segments."""
    return Reading(
        split=pipeline.prepare.split,
        split_field=pipeline.split_field.name,
        clean=pipeline.prepare.clean,
        squared=squared_fields(pipeline),
    )


def rows_of(taken: Slice, fields: Sequence[Field], reading: Reading, store: BlobStore) -> Iterator[pa.RecordBatch]:
    """Yield the rows that a dataset takes of a segment, in canonical order, one batch per part.

    Raises DatasetInvalid when a part is not what the manifest says.
    """
    for part in taken.parts:
        rows = read_part(part, fields, store)
        kept = is_taken(rows, taken, fields, reading) & ~left_out(part)
        yield as_taken(rows.filter(pa.array(kept)), taken, reading)


def left_out(part: Part) -> Mask:
    """Return which rows of a part a dataset leaves out, whatever the rule. Raises DatasetInvalid."""
    found = np.zeros(part.rows, dtype=np.bool_)
    for rule in part.left_out:
        found |= left_out_by(rule, part)
    return found


def left_out_by(rule: str, part: Part) -> Mask:
    """Return which rows of a part a dataset leaves out by a rule. Raises DatasetInvalid."""
    try:
        bits = np.frombuffer(base64.b64decode(part.left_out[rule], validate=True), np.uint8)
    except ValueError as error:
        raise DatasetInvalid(f"expected bits of rows in base64 of {part.uri}, rule {rule}: {error}") from error
    if len(bits) != -(-part.rows // 8):
        raise DatasetInvalid(f"expected a bit for each of {part.rows} rows of {part.uri}, got {len(bits)} bytes")
    return np.unpackbits(bits, count=part.rows).view(np.bool_)


def without(part: Part, rules: Mapping[str, Mask]) -> Part:
    """Return a part of which a dataset leaves out these rows, too, by rule."""
    bits = part.left_out | {
        rule: base64.b64encode(np.packbits(rows).tobytes()).decode() for rule, rows in rules.items() if rows.any()
    }
    return part.model_copy(update={"left_out": bits})


def as_taken(rows: pa.RecordBatch, taken: Slice, reading: Reading) -> pa.RecordBatch:
    """Return rows of a segment with their texts as a dataset has them: masked as its pipeline says.

    They are stored like that, unless the segment was cut under other rules.
    """
    return masked(rows, reading.clean.personal)[0] if taken.strict else rows


def is_taken(rows: pa.RecordBatch, taken: Slice, fields: Sequence[Field], reading: Reading) -> Mask:
    """Return which rows of a segment a dataset takes, but for those that it leaves out for others of its rows."""
    kept = np.ones(len(rows), dtype=np.bool_) if taken.since is None else _from_bound_on(rows, taken.since)
    if taken.strict:
        kept[list(broken(rows, fields, reading.clean, reading.squared))] = False
    return kept


def splits_of(rows: pa.RecordBatch, reading: Reading) -> npt.NDArray[np.int8]:
    """Return the number of the split of each row."""
    return assign_splits(rows.column(reading.split_field), reading.split)


def reaches(part: Part, since: Bound) -> bool:
    """Return whether a part may hold a row from a bound on."""
    return since.time == NO_TIME or (part.last_time is not None and part.last_time >= since.time)


def bound_of_newest(batches: Iterator[pa.RecordBatch], count: int) -> Bound:
    """Return the bound from which on there are `count` rows by event time, of at least so many."""
    found = [(times_of(rows), *lineage(rows)) for rows in batches]
    times, partitions, offsets, indexes = (np.concatenate(column) for column in zip(*found, strict=True))
    row = np.lexsort((indexes, offsets, partitions, times))[-count]
    return Bound(
        time=int(times[row]), partition=int(partitions[row]), offset=int(offsets[row]), index=int(indexes[row])
    )


def _from_bound_on(rows: pa.RecordBatch, since: Bound) -> Mask:
    columns: list[npt.NDArray[Any]] = [times_of(rows), *lineage(rows)]
    first = (since.time, since.partition, since.offset, since.index)
    after = np.zeros(len(rows), dtype=np.bool_)
    equal = np.ones(len(rows), dtype=np.bool_)
    for column, least in zip(columns, first, strict=True):
        after |= equal & (column > least)
        equal &= column == least
    return after | equal
