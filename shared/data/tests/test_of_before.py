"""Datasets of before event times were kept: bytes that an earlier version wrote, in `of_before`."""

import hashlib
from pathlib import Path

import pyarrow as pa
from headrace_data.batches import TIME
from headrace_data.dataset import DatasetReader, DatasetWriter
from headrace_data.manifest import Manifest
from headrace_data.parts import Blob
from headrace_data.spec import load_pipeline
from headrace_data.split import SPLITS

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
    writer = DatasetWriter(pipeline, MemoryStore())
    writer.add(rows.combine_chunks().to_batches()[0])
    assert writer.finish(manifest.provenance).dataset_id == manifest.dataset_id
