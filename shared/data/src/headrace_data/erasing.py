"""Erasing: rows leave parts for good, and their leaf digests stay, so that ids and proofs stand.

A part is rewritten with its rows in their places: of an erased one there is where it came from and its leaf of the
Merkle tree, in a column of its own; its values are zeros and empty texts, and its time is gone. Whoever reads a dataset
leaves such rows out, by the bits that its manifest has for each part. So a manifest is written anew with each part, and
the store answers to the digest of the old one with the new one: see `ObjectStore.supersede`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace_data.batches import LINEAGE, OFFSET, PARTITION, TIME, arrow_type
from headrace_data.errors import DatasetInvalid
from headrace_data.forgotten import FORGOTTEN
from headrace_data.identity import LEAF
from headrace_data.manifest import Manifest, Part, SegmentManifest
from headrace_data.parts import BlobStore, read_part, write_part
from headrace_data.row_bytes import rows_as_bytes
from headrace_data.slices import is_taken, left_out, left_out_by, splits_of, without
from headrace_data.spec import Field
from headrace_data.split import SPLITS

LEAVES: Final = "_leaf"
"""Column of a part with erased rows: the leaf digest of each of these, 32 bytes; null of rows that stand."""

Mask = npt.NDArray[np.bool_]


def erased_rows(part: Part) -> Mask:
    """Return which rows of a part were erased. Raises DatasetInvalid."""
    return left_out_by(FORGOTTEN, part) if FORGOTTEN in part.left_out else np.zeros(part.rows, dtype=np.bool_)


def keys_in(data: bytes, name: str) -> pa.Array | None:
    """Return the keys of the rows of a Parquet file, null where a row was erased; None where there is no such column.

    None of bytes that are no such file, either.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if name not in file.schema_arrow.names:
            return None
        table = file.read(columns=[each for each in (name, LEAVES) if each in file.schema_arrow.names])
    except (pa.ArrowException, OSError, ValueError):
        return None
    keys = _whole(table, name)
    if LEAVES not in table.column_names:
        return keys
    return pc.if_else(_whole(table, LEAVES).is_null(), keys, pa.scalar(None, keys.type))


def has_columns_of(part: Part, fields: Sequence[Field], store: BlobStore) -> bool:
    """Return whether a part was cut under these fields: it has their columns, of their types, and no others."""
    return _are_columns_of(_table(part, store).schema, fields)


def may_be_of(data: bytes, fields: Sequence[Field]) -> bool:
    """Return whether a Parquet file has the columns of rows with these fields."""
    try:
        return _are_columns_of(pq.read_schema(pa.BufferReader(data)), fields)
    except (pa.ArrowException, OSError, ValueError):
        return False


def has_places(data: bytes) -> bool:
    """Return whether the rows of a Parquet file say where they come from, as parts do; files of callers do not."""
    try:
        return {PARTITION, OFFSET} <= set(pq.read_schema(pa.BufferReader(data)).names)
    except (pa.ArrowException, OSError, ValueError):
        return False


def _are_columns_of(schema: pa.Schema, fields: Sequence[Field]) -> bool:
    stored = [each for each in schema if each.name not in (*LINEAGE, LEAVES)]
    wanted = [(field.name, arrow_type(field)) for field in fields]
    return len(stored) == len(wanted) and all(
        each.name == name and _alike(each.type, kind) for each, (name, kind) in zip(stored, wanted, strict=True)
    )


def leaves(part: Part, fields: Sequence[Field], store: BlobStore) -> list[bytes]:
    """Return the leaf digests of a part's rows, 32 bytes each, in their order; `fields` as when it was cut.

    Raises DatasetInvalid when the rows are not what the manifest says.
    """
    batch, table = read_part(part, fields, store), _table(part, store)
    found = [sha256(row).digest() for row in rows_as_bytes(batch, fields, LEAF)]
    if LEAVES not in table.column_names:
        return found
    kept = _whole(table, LEAVES).to_pylist()
    return [leaf if leaf is not None else own for leaf, own in zip(kept, found, strict=True)]


def erase(part: Part, rows: Mask, fields: Sequence[Field], store: BlobStore) -> Part:
    """Keep a part without the values of these rows, and return it; `fields` are those that it was cut under."""
    table, known = _table(part, store), leaves(part, fields, store)
    gone = rows | erased_rows(part)
    columns = {
        name: _whole(table, name) if name in LINEAGE and name != TIME else _without_values(table, name, gone)
        for name in table.column_names
        if name != LEAVES
    }
    columns[LEAVES] = pa.array([leaf if out else None for leaf, out in zip(known, gone, strict=True)], pa.binary(32))
    kept = [table.schema.field(name) for name in columns if name != LEAVES]
    schema = pa.schema([*kept, pa.field(LEAVES, pa.binary(32))])
    blob = store.put(write_part(pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)))
    update = {"uri": blob.uri, "digest": blob.digest, "size_bytes": blob.size_bytes, **_times(columns, ~gone)}
    return without(part.model_copy(update=update), {FORGOTTEN: gone})


def like(part: Part, erased: Part) -> Part:
    """Return a part as a dataset has it, with the rows left out that it leaves out, in the place of an erased one."""
    return erased.model_copy(update={"left_out": part.left_out | {FORGOTTEN: erased.left_out[FORGOTTEN]}})


def segment_without(segment: SegmentManifest, erased: Mapping[str, Part]) -> SegmentManifest:
    """Return a segment with erased parts in the places of those of these digests."""
    return segment.model_copy(update={"parts": tuple(_in_place(part, erased) for part in segment.parts)})


def dataset_without(dataset: Manifest, erased: Mapping[str, Part], counts: Mapping[str, int]) -> Manifest:
    """Return a dataset with erased parts in the places of those of these digests; `counts` rows by split were its."""
    splits = {
        name: split.model_copy(
            update={
                "rows": split.rows - counts[name],
                "parts": tuple(_in_place(part, erased) for part in split.parts),
            }
        )
        for name, split in dataset.splits.items()
    }
    slices = tuple(
        each.model_copy(update={"parts": tuple(_in_place(part, erased) for part in each.parts)})
        for each in dataset.slices
    )
    rejected = Counter(dataset.provenance.rejected)
    rejected[FORGOTTEN] += sum(counts.values())
    provenance = dataset.provenance.model_copy(update={"rejected": dict(+rejected)})
    return dataset.model_copy(update={"splits": splits, "slices": slices, "provenance": provenance})


def rows_by_split(
    dataset: Manifest, rows: Mapping[str, Mask], store: BlobStore, beat: Callable[[], None] = lambda: None
) -> Counter[str]:
    """Return how many of these rows, by the digests of their parts, a dataset took into each split."""
    counts = Counter[str]()
    for name, split in dataset.splits.items():
        counts[name] += sum(
            int((rows[part.digest] & ~left_out(part)).sum()) for part in split.parts if part.digest in rows
        )
    if (reading := dataset.reading) is None:
        return counts
    for taken in dataset.slices:
        for part in taken.parts:
            if part.digest not in rows:
                continue
            beat()
            batch = read_part(part, dataset.fields, store)
            kept = rows[part.digest] & is_taken(batch, taken, dataset.fields, reading) & ~left_out(part)
            sides = splits_of(batch, reading)
            for number, name in enumerate(SPLITS):
                counts[name] += int((kept & (sides == number)).sum())
    return counts


def _in_place(part: Part, erased: Mapping[str, Part]) -> Part:
    return like(part, erased[part.digest]) if part.digest in erased else part


def _table(part: Part, store: BlobStore) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(store.get(part)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetInvalid(f"expected a Parquet file in {part.uri}: {error}") from error
    if table.num_rows != part.rows or OFFSET not in table.column_names:
        raise DatasetInvalid(f"expected {part.rows} rows of a segment in {part.uri}, got {table.num_rows}")
    return table


def _alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Return whether two types are the same, whatever the items of a list are called."""
    if pa.types.is_fixed_size_list(one) and pa.types.is_fixed_size_list(other):
        return bool(one.list_size == other.list_size and one.value_type == other.value_type)
    return bool(one == other)


def _whole(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).combine_chunks()


def _without_values(table: pa.Table, name: str, gone: Mask) -> pa.Array:
    """Return a column with zeros, empty texts or no time in the places of these rows."""
    column, count = _whole(table, name), table.num_rows
    places = np.where(gone, count, np.arange(count))
    return pa.concat_arrays([column, _nothing(column.type)]).take(pa.array(places))


def _nothing(kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.nulls(1, kind)
    if pa.types.is_string(kind):
        return pa.array([""], kind)
    if pa.types.is_fixed_size_list(kind):
        values = pa.array([0] * kind.list_size, pa.int8()).cast(kind.value_type)
        return pa.FixedSizeListArray.from_arrays(values, type=kind)
    return pa.array([0], pa.int8()).cast(kind)


def _times(columns: Mapping[str, pa.Array], stay: Mask) -> dict[str, int | None]:
    """Return the first and the last event time of the rows that stay."""
    if TIME not in columns or not stay.any():
        return {"first_time": None, "last_time": None}
    times = columns[TIME].cast(pa.int64()).filter(pa.array(stay))
    ends = pc.min_max(times).as_py()
    return {"first_time": None if times.null_count else ends["min"], "last_time": ends["max"]}
