"""Segments: clean rows written to Parquet parts as they arrive, unsplit, with a sketch of them.

The rows are ordered by (producer partition, offset, index). A part holds rows of one producer partition; a segment
lists its parts in that order. Which split a row belongs to is decided when it is read, so another split rule needs no
new parts; the sketch knows the sides of the rule under which the segment was cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import OFFSET, PARTITION, TIME, arrow_schema, require_columns
from headrace_data.identity import RowsIdentity, dataset_id
from headrace_data.manifest import Part, Provenance, SegmentManifest
from headrace_data.parts import BlobStore, default_chunk_rows, default_part_rows, row_bytes, write_part
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline
from headrace_data.split import assign_splits

WAITING_BYTES: Final = 32 * 2**20
"""About how much may wait to be written, of all producer partitions together; but for a chunk of each."""


@dataclass(frozen=True)
class Segment:
    """What a cut wrote."""

    manifest: SegmentManifest
    sketch: Sketch


class SegmentWriter:
    """Writes one segment. Bounded in memory, whatever the number of partitions."""

    def __init__(self, pipeline: Pipeline, store: BlobStore, part_rows: int | None = None) -> None:
        """Write parts of `part_rows` rows; by default as many as make a part of about 8 MiB in memory."""
        self._pipeline = pipeline
        self._store = store
        self._schema = arrow_schema(pipeline.stream.fields)
        part_rows = part_rows or default_part_rows(pipeline.stream.fields)
        self._chunk_rows = min(default_chunk_rows(pipeline.stream.fields), part_rows)
        self._part_rows = part_rows - part_rows % self._chunk_rows
        self._most_waiting = WAITING_BYTES // row_bytes(pipeline.stream.fields)
        self._identity = RowsIdentity(pipeline.stream)
        self._sketch = Sketch(pipeline)
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self._counts: dict[int, int] = {}
        self._parts: dict[int, list[Part]] = {}

    @property
    def rows(self) -> int:
        """Rows added so far."""
        return self._identity.rows

    @property
    def waiting(self) -> int:
        """Rows that are held in memory."""
        return sum(self._counts.values())

    def add(self, batch: pa.RecordBatch) -> None:
        """Add clean rows; those of one producer partition come in the order of (offset, index).

        Raises BatchInvalid when the columns are not the stream's, and DatasetInvalid when rows are out of order.
        """
        require_columns(batch, self._pipeline.stream.fields)
        # Rows of before a field became nullable say so in their schema; joined with others they must not.
        batch = pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
        self._identity.add(batch)
        column = batch.column(PARTITION)
        for partition in (partitions := pc.unique(column).to_pylist()):
            rows = batch if len(partitions) == 1 else batch.filter(pc.equal(column, partition))
            self._waiting.setdefault(partition, []).append(rows)
            self._counts[partition] = self._counts.get(partition, 0) + len(rows)
            if self._counts[partition] >= self._part_rows:
                self._write_whole(partition, self._part_rows)
        while self.waiting > self._most_waiting and max(self._counts.values()) >= self._chunk_rows:
            self._write_whole(max(self._counts, key=lambda each: self._counts[each]), self._chunk_rows)

    def finish(self, provenance: Provenance, keep_alive: Callable[[], None] = lambda: None) -> Segment:
        """Write what is left, and return the segment. `keep_alive` is called for each part that is written."""
        for partition, waiting in self._waiting.items():
            if waiting:
                self._write(partition, pa.concat_batches(waiting))
                keep_alive()
        self._waiting.clear()
        self._counts.clear()
        pipeline = self._pipeline
        manifest = SegmentManifest(
            segment_id=dataset_id(self._identity, pipeline),
            pipeline=pipeline.name,
            schema_digest=pipeline.schema_digest,
            prepare_digest=pipeline.prepare_digest,
            split_digest=pipeline.split_digest,
            rows=self.rows,
            parts=tuple(part for partition in sorted(self._parts) for part in self._parts[partition]),
            provenance=provenance,
        )
        return Segment(manifest, self._sketch)

    def _write_whole(self, partition: int, unit: int) -> None:
        """Write as many whole units of what waits of a partition as there are; parts of at most `part_rows` rows."""
        # Cut at exact row counts, so that the same rows give the same parts and sketches however they arrived.
        rows = pa.concat_batches(self._waiting[partition])
        full = len(rows) - len(rows) % unit
        for start in range(0, full, self._part_rows):
            self._write(partition, rows.slice(start, min(self._part_rows, full - start)))
        # Copied, so that the rest does not keep the whole alive.
        rest = rows.take(pa.array(range(full, len(rows)), pa.int64()))
        self._waiting[partition], self._counts[partition] = [rest] if len(rest) else [], len(rest)

    def _write(self, partition: int, rows: pa.RecordBatch) -> None:
        for start in range(0, len(rows), self._chunk_rows):
            chunk = rows.slice(start, self._chunk_rows)
            splits = assign_splits(chunk.column(self._pipeline.split_field.name), self._pipeline.prepare.split)
            self._sketch.add(chunk, partition, splits)
        blob = self._store.put(write_part(rows))
        offsets, times = rows.column(OFFSET), pc.min_max(rows.column(TIME).cast(pa.int64())).as_py()
        part = Part(
            uri=blob.uri,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            rows=len(rows),
            partition=partition,
            first_offset=offsets[0].as_py(),
            last_offset=offsets[-1].as_py(),
            first_time=None if rows.column(TIME).null_count else times["min"],
            last_time=times["max"],
        )
        self._parts.setdefault(partition, []).append(part)
