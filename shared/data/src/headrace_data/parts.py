"""Parts: the Parquet files of a dataset, and the store that keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from headrace_data.batches import arrow_schema, timed
from headrace_data.errors import DatasetInvalid
from headrace_data.manifest import Part
from headrace_data.spec import Field

_PART_BYTES: Final = 8 * 2**20
"""About how large a part is in memory."""
_TEXT_BYTES: Final = 32
"""What a text is taken to need, for that sum."""
_CHUNK_BYTES: Final = 2**20
"""About how large a chunk is in memory: a part is written in whole chunks while others wait."""
_DICTIONARY_BYTES: Final = 16_384
"""Largest dictionary of a column. With the default of 1 MiB, columns of many different values take three times as long
to write and half as much space again, because their dictionary is given up late."""


class Blob(Protocol):
    """Bytes in an object store."""

    @property
    def uri(self) -> str:
        """Where they are."""

    @property
    def digest(self) -> str:
        """Their SHA-256: ``sha256:`` and 64 hexadecimal digits."""

    @property
    def size_bytes(self) -> int:
        """How many they are."""


class BlobStore(Protocol):
    """Where parts are kept."""

    def put(self, data: bytes) -> Blob:
        """Keep bytes under their digest; the same bytes twice are one blob."""

    def get(self, blob: Blob) -> bytes:
        """Return a blob's bytes. Raises unless they have its digest."""


def default_part_rows(fields: Sequence[Field]) -> int:
    """Return how many rows make a part of about 8 MiB in memory: between 256 and 262,144."""
    return min(max(_PART_BYTES // row_bytes(fields), 256), 262_144)


def default_chunk_rows(fields: Sequence[Field]) -> int:
    """Return how many rows make a chunk, which takes about 1 MiB in memory: between 64 and 8,192."""
    return min(max(_CHUNK_BYTES // row_bytes(fields), 64), 8_192)


def row_bytes(fields: Sequence[Field]) -> int:
    """Return about how many bytes a row takes in memory."""
    return 16 + sum(_TEXT_BYTES if field.type == "string" else field.size * field.dtype.itemsize for field in fields)


def write_part(rows: pa.RecordBatch) -> bytes:
    """Return rows as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_batches([rows]),
        sink,
        compression="zstd",
        row_group_size=65_536,
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
    )
    return bytes(sink.getvalue())


def read_part(part: Part, fields: Sequence[Field], store: BlobStore) -> pa.RecordBatch:
    """Return the rows of a part with these fields; those of before event times were kept have none.

    A nullable field that the part does not have is null, and a number of a narrower type is widened. Raises
    DatasetInvalid when the rows are not what the manifest says.
    """
    data = store.get(part)
    with _naming(part):
        table = _of_schema(pq.read_table(pa.BufferReader(data)), arrow_schema(fields))
    if table.num_rows != part.rows:
        raise DatasetInvalid(f"expected {part.rows} rows in {part.uri}, got {table.num_rows}")
    batches = table.combine_chunks().to_batches()
    return batches[0]


def read_groups(
    part: Part, fields: Sequence[Field], store: BlobStore, *, lineage: bool = True
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a part as `read_part` returns them, one row group after another, decoded one at a time.

    Without `lineage` nothing but the columns of these fields is decoded. Raises DatasetInvalid when they are not what
    the manifest says.
    """
    data = store.get(part)
    with _naming(part):
        file = pq.ParquetFile(pa.BufferReader(data))
    if file.metadata.num_rows != part.rows:
        raise DatasetInvalid(f"expected {part.rows} rows in {part.uri}, got {file.metadata.num_rows}")
    schema = arrow_schema(fields) if lineage else pa.schema(list(arrow_schema(fields))[: len(fields)])
    held = [name for name in schema.names if name in file.schema_arrow.names]
    for number in range(file.num_row_groups):
        with _naming(part):
            table = _of_schema(file.read_row_group(number, columns=held, use_threads=False), schema)
        yield from table.combine_chunks().to_batches()


def read_columns(part: Part, names: Sequence[str], store: BlobStore) -> pa.RecordBatch:
    """Return those of these columns that a part has, and decode no other. Raises DatasetInvalid as `read_part` does."""
    data = store.get(part)
    with _naming(part):
        file = pq.ParquetFile(pa.BufferReader(data))
        table = file.read(columns=[name for name in names if name in file.schema_arrow.names])
    if table.num_rows != part.rows:
        raise DatasetInvalid(f"expected {part.rows} rows in {part.uri}, got {table.num_rows}")
    return table.combine_chunks().to_batches()[0]


@contextmanager
def _naming(part: Part) -> Iterator[None]:
    """Raise DatasetInvalid, which names the part, for whatever is wrong with its file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetInvalid(f"expected a Parquet file of the dataset's columns in {part.uri}: {error}") from error


def _of_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return what a Parquet file holds as rows of this schema."""
    return _with_names_of_lists(_projected(timed(table.combine_chunks()), schema), schema).cast(schema)


def _projected(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of a schema, in its order; those that are not there are null where they may be."""
    for field in schema:
        if field.name not in table.column_names and field.nullable:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select([name for name in schema.names if name in table.column_names])


def _with_names_of_lists(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with its lists of fixed size called as in a schema: Parquet has a name of its own for their items.

    Arrow's cast does the same, but not where a list is null.
    """
    for place, field in enumerate(table.schema):
        if not pa.types.is_fixed_size_list(field.type) or field.name not in schema.names:
            continue
        lists = table.column(place).combine_chunks()
        wanted = schema.field(field.name).type
        if lists.null_count and pa.types.is_fixed_size_list(wanted) and wanted.list_size == field.type.list_size:
            values = lists.values.slice(lists.offset * wanted.list_size, len(lists) * wanted.list_size)
            values = (values.fill_null(0) if values.null_count else values).cast(wanted.value_type)
            renamed = pa.FixedSizeListArray.from_arrays(values, type=wanted, mask=lists.is_null())
            table = table.set_column(place, pa.field(field.name, wanted, field.nullable), renamed)
    return table
