"""Datasets of before event times were kept: bytes that an earlier version wrote, in `of_before`."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from headrace_data.batches import TIME
from headrace_data.dataset import DatasetReader
from headrace_data.history import History, entry_of
from headrace_data.manifest import Manifest, SegmentManifest
from headrace_data.parts import Blob
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.split import SPLITS
from headrace_data.windows import Windows, only_dataset

from .conftest import MemoryStore

OF_BEFORE = Path(__file__).parent / "of_before"


class Kept:
    """The parts, by their uri."""

    def put(self, data: bytes) -> Blob:
        raise AssertionError(f"expected a reader, got {len(data)} bytes to keep")

    def get(self, blob: Blob) -> bytes:
        data = (OF_BEFORE / blob.uri).read_bytes()
        assert blob.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
        return data


def test_a_dataset_of_before_is_read_with_unknown_times_and_frozen_again_has_its_id() -> None:
    manifest = Manifest.from_json((OF_BEFORE / "manifest.json").read_bytes())
    pipeline = load_pipeline((OF_BEFORE / "pipeline.yaml").read_bytes())
    reader = DatasetReader(manifest, Kept())
    batches = [batch for split in SPLITS for batch in reader.batches(split)]
    rows = pa.Table.from_batches(batches).sort_by([("_partition", "ascending"), ("_offset", "ascending")])

    assert rows.num_rows == manifest.rows == 32
    assert rows.column(TIME).null_count == 32
    assert (manifest.spec_digest, manifest.prepare_digest) == (pipeline.digest, pipeline.prepare_digest)
    writer = SegmentWriter(pipeline, MemoryStore())
    writer.add(rows.combine_chunks().to_batches()[0])
    assert only_dataset(writer.finish(manifest.provenance), pipeline, MemoryStore()).dataset_id == manifest.dataset_id


def test_a_dataset_of_before_is_a_segment_of_a_history() -> None:
    old = (OF_BEFORE / "manifest.json").read_bytes()
    pipeline = load_pipeline((OF_BEFORE / "pipeline.yaml").read_bytes())
    store = MemoryStore()
    segment = SegmentManifest.from_json(old)
    history = History(pipeline=pipeline.name).and_cut(entry_of(segment, store.put(old)))
    for part in segment.parts:
        store.blobs[part.uri] = (OF_BEFORE / part.uri).read_bytes()
    before = Manifest.from_json(old)

    manifest, renewed = Windows(pipeline, store).dataset(history)

    assert manifest.dataset_id == before.dataset_id
    assert {name: split.rows for name, split in manifest.splits.items()} == {
        name: split.rows for name, split in before.splits.items()
    }
    assert manifest.classes == before.classes
    for one, other in zip(manifest.transforms.features, before.transforms.features, strict=True):
        np.testing.assert_allclose(one.apply(np.ones(1)), other.apply(np.ones(1)), rtol=1e-6)
    assert renewed.entries[0].sketch is not None
    for split in SPLITS:
        old_rows = pa.Table.from_batches(DatasetReader(before, store).batches(split)).to_pylist()
        assert pa.Table.from_batches(DatasetReader(manifest, store).batches(split)).to_pylist() == old_rows
