"""Proofs that rows are in a segment."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from headrace_data.audit import root_by
from headrace_data.errors import DatasetInvalid
from headrace_data.manifest import Part, SegmentManifest
from headrace_data.parts import BlobStore, write_part
from headrace_data.row_proofs import LEAVES, SegmentProof, prove_rows
from headrace_data.spec import load_pipeline

from .conftest import MemoryStore
from .many_days import days, rows_of, segment_of
from .test_of_before import OF_BEFORE, Kept


def require_sound(proof: SegmentProof) -> None:
    roots = {each.partition: each for each in proof.partitions}
    for row in proof.rows:
        tree = roots[row.partition]
        assert root_by(row.digest, row.leaf, tree.rows, row.path) == tree.root


def all_of(manifest: SegmentManifest, store: BlobStore) -> set[tuple[int, int]]:
    tables = [pq.read_table(pa.BufferReader(store.get(part))) for part in manifest.parts]
    return {(row["_partition"], row["_offset"]) for each in tables for row in each.to_pylist()}


def test_each_row_of_a_segment_is_proved_by_its_bytes() -> None:
    pipeline, store = days(), MemoryStore()
    manifest = segment_of(pipeline, store, rows_of(pipeline, 0)).manifest
    wanted = all_of(manifest, store)
    proof = prove_rows(manifest, pipeline.stream.fields, store, wanted)
    require_sound(proof)
    assert {(row.partition, row.offset) for row in proof.rows} == wanted
    assert len({row.row for row in proof.rows}) == manifest.rows == 60
    assert not prove_rows(manifest, pipeline.stream.fields, store, {(9, 0)}).rows
    other = segment_of(pipeline, store, rows_of(pipeline, 1)).manifest
    forged = manifest.model_copy(update={"parts": other.parts})
    with pytest.raises(DatasetInvalid, match=f"expected rows whose segment is {manifest.segment_id}"):
        prove_rows(forged, pipeline.stream.fields, store, wanted)


def test_rows_of_a_dataset_of_before_there_were_segments_are_proved() -> None:
    manifest = SegmentManifest.from_json((OF_BEFORE / "manifest.json").read_bytes())
    pipeline = load_pipeline((OF_BEFORE / "pipeline.yaml").read_bytes())
    proof = prove_rows(manifest, pipeline.stream.fields, Kept(), all_of(manifest, Kept()))
    require_sound(proof)
    assert len(proof.rows) == manifest.rows == 32


def test_an_erased_row_is_proved_by_its_leaf_digest() -> None:
    pipeline, store = days(), MemoryStore()
    manifest = segment_of(pipeline, store, rows_of(pipeline, 0)).manifest
    wanted = {(0, 0), (0, 3)}
    whole = prove_rows(manifest, pipeline.stream.fields, store, wanted)
    parts = (erased(manifest.parts[0], whole.rows[0].digest, store), *manifest.parts[1:])
    proof = prove_rows(manifest.model_copy(update={"parts": parts}), pipeline.stream.fields, store, wanted)
    require_sound(proof)
    assert [row.row for row in proof.rows] == [None, whole.rows[1].row]
    assert [row.digest for row in proof.rows] == [row.digest for row in whole.rows]


def erased(part: Part, leaf: bytes, store: MemoryStore) -> Part:
    """Return a part without the values of its first row, whose leaf digest stands."""
    table = pq.read_table(pa.BufferReader(store.get(part)))
    place = table.schema.get_field_index("y")
    values = pa.array([0, *table.column("y").to_pylist()[1:]], pa.int64())
    table = table.set_column(place, table.schema.field("y"), values)
    table = table.append_column(LEAVES, pa.array([leaf] + [None] * (part.rows - 1), pa.binary(32)))
    blob = store.put(write_part(table.combine_chunks().to_batches()[0]))
    return part.model_copy(update={"uri": blob.uri, "digest": blob.digest, "size_bytes": blob.size_bytes})
