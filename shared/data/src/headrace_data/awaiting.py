"""What waits while labels come later than their rows: a document, and the files that it names in the object store.

It is part of a pipeline's history, so that it changes in the one transaction in which a cut is announced: whoever is
killed before leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pydantic

from headrace_data.batches import OFFSET, PARTITION, arrow_schema
from headrace_data.errors import DatasetInvalid
from headrace_data.key_digests import Digests, key_digests
from headrace_data.manifest import Count, Document, Part, Ref, is_none
from headrace_data.parts import BlobStore, default_part_rows, read_columns, read_groups, write_part
from headrace_data.spec import Pipeline

READ: Final = "_read"
"""Column of kept labels: when the label was read, in microseconds since the epoch."""
USED: Final = "_used"
"""Column of kept labels: whether a row has it."""


class Awaiting(Document):
    """Rows that wait for their labels, and labels that may have rows to come."""

    rows: tuple[Part, ...] = ()
    """The rows, those of each producer partition in order."""
    labels: tuple[Ref, ...] = ()
    """The labels: Parquet, with the columns of `Stream.of_labels`, `READ` and `USED`."""
    label_count: Count = 0
    """How many labels these are."""
    watermark: int | None = pydantic.Field(default=None, exclude_if=is_none)
    """The latest event time of all rows and labels so far, in microseconds since the epoch."""
    topic_id: str = ""
    """The broker's id of the topic that the rows are of; empty where nobody knows."""
    rejected: dict[str, int] = pydantic.Field(default={}, exclude_if=lambda value: not value)
    """Rows that were rejected or given up since the newest segment, by rule: the next segment tells of them."""
    masked: dict[str, int] = pydantic.Field(default={}, exclude_if=lambda value: not value)
    """What was masked in texts since the newest segment, by kind: the next segment tells of it."""
    unread: dict[str, int] = pydantic.Field(default={}, exclude_if=lambda value: not value)
    """Values that a SELECT could not read since the newest segment, by field: the next segment tells of them."""
    time_sources: tuple[str, ...] = pydantic.Field(default=(), exclude_if=lambda value: not value)
    """Where the event times of the rows that wait come from."""
    writer_schemas: tuple[str, ...] = pydantic.Field(default=(), exclude_if=lambda value: not value)
    """Digests of the schemas that the records of the rows that wait were written with."""

    @property
    def digests(self) -> list[str]:
        """The digests of the files that it names."""
        return [each.digest for each in self.rows] + [each.digest for each in self.labels]

    @property
    def row_count(self) -> int:
        """How many rows wait."""
        return sum(part.rows for part in self.rows)


NOTHING_WAITS: Final = Awaiting()


def label_schema(pipeline: Pipeline) -> pa.Schema:
    """Return the columns of kept labels."""
    columns = list(arrow_schema(pipeline.stream.of_labels.fields))
    return pa.schema([*columns, pa.field(READ, pa.int64()), pa.field(USED, pa.bool_())])


def kept_labels(awaiting: Awaiting, pipeline: Pipeline, store: BlobStore) -> pa.Table:
    """Return the labels that are kept. Raises DatasetInvalid when they are not what was written."""
    schema = label_schema(pipeline)
    tables = [schema.empty_table()]
    for each in awaiting.labels:
        try:
            tables.append(pq.read_table(pa.BufferReader(store.get(each))).select(schema.names).cast(schema))
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise DatasetInvalid(f"expected a Parquet file of labels in {each.uri}: {error}") from error
    return pa.concat_tables(tables)


def keep_labels(labels: pa.Table, store: BlobStore, rows: int = 262_144) -> tuple[Ref, ...]:
    """Keep labels, so many rows in a file, and return where."""
    batches = labels.combine_chunks().to_batches(max_chunksize=rows)
    stored = [store.put(write_part(batch)) for batch in batches if len(batch)]
    return tuple(Ref(uri=blob.uri, digest=blob.digest, size_bytes=blob.size_bytes) for blob in stored)


def waiting_rows(awaiting: Awaiting, pipeline: Pipeline, store: BlobStore) -> Iterator[pa.RecordBatch]:
    """Yield the rows that wait, those of each producer partition in order, without what they have for a label."""
    for part in awaiting.rows:
        yield from read_groups(part, pipeline.stream.incoming.fields, store)


def waiting_keys(awaiting: Awaiting, pipeline: Pipeline, store: BlobStore) -> Iterator[Digests]:
    """Yield the digests of the keys of the rows that wait."""
    if (key := pipeline.stream.key_field) is not None:
        yield from (key_digests(read_columns(part, [key.name], store).column(0)) for part in awaiting.rows)


class WaitingWriter:
    """Writes rows that wait on; those of each producer partition come in order."""

    def __init__(self, pipeline: Pipeline, store: BlobStore) -> None:
        fields = pipeline.stream.incoming.fields
        self._schema, self._store = arrow_schema(fields), store
        self._most = default_part_rows(fields)
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self._parts: dict[int, list[Part]] = {}

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows of the stream as they come."""
        rows = pa.RecordBatch.from_arrays(rows.columns, schema=self._schema)
        for partition in pc.unique(rows.column(PARTITION)).to_pylist():
            own = rows.filter(pc.equal(rows.column(PARTITION), partition))
            self._waiting.setdefault(partition, []).append(own)
        while sum(len(each) for some in self._waiting.values() for each in some) >= self._most:
            self._write(max(self._waiting, key=lambda each: sum(map(len, self._waiting[each]))))

    def finish(self) -> tuple[Part, ...]:
        """Write what is left, and return where all is."""
        for partition in list(self._waiting):
            self._write(partition)
        return tuple(part for partition in sorted(self._parts) for part in self._parts[partition])

    def _write(self, partition: int) -> None:
        rows = pa.concat_batches(self._waiting.pop(partition))
        blob, offsets = self._store.put(write_part(rows)), rows.column(OFFSET)
        part = Part(
            uri=blob.uri,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            rows=len(rows),
            partition=partition,
            first_offset=offsets[0].as_py(),
            last_offset=offsets[-1].as_py(),
        )
        self._parts.setdefault(partition, []).append(part)
