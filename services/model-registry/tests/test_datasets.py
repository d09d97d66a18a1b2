"""Rows of datasets in the object store, found by where their records lie."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.batches import arrow_schema
from headrace_data.manifest import Manifest, Provenance, Source
from headrace_data.segments import SegmentWriter
from headrace_data.slices import without
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_model_registry.adapters.datasets import StoredDatasets
from headrace_model_registry.core.fate import HeldRow, RecordPlace
from headrace_runtime.object_store import ObjectStore

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Counting(ObjectStore):
    """An object store that counts what is read."""

    def __init__(self, url):
        super().__init__(url)
        self.gets = 0

    def get(self, artifact):
        self.gets += 1
        return super().get(artifact)


@pytest.fixture
def store(tmp_path):
    return Counting(str(tmp_path))


@pytest.fixture
def freeze(world, store):
    """Freeze 300 rows of a producers' partition."""

    def frozen(partition=0, *backfilled):
        pipeline = load_pipeline(world.document(width=1))
        schema = arrow_schema(pipeline.stream.fields)
        columns = {
            "id": pa.array([str(number) for number in range(300)]),
            "pixels": pa.array([[1.0]] * 300, schema.field("pixels").type),
            "digit": pa.array([number % 3 for number in range(300)], pa.int64()),
            "_partition": pa.array([partition] * 300, pa.int32()),
            "_offset": pa.array(range(300), pa.int64()),
            "_index": pa.array([0] * 300, pa.int32()),
            "_time": pa.array([MOMENT] * 300, schema.field("_time").type),
        }
        writer = SegmentWriter(pipeline, store)
        writer.add(pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))
        provenance = Provenance(
            cluster_id="c", topic="digits", topic_id="", sources=(), clean_ranges=(), rejected={}, backfilled=backfilled
        )
        manifest = only_dataset(writer.finish(provenance), pipeline, store)
        return replace(world.frozen(world.applied()), manifest=store.put(manifest.to_json()))

    return frozen


def test_a_row_is_found_by_topic_partition_and_offset(freeze, store):
    datasets, frozen = StoredDatasets(store), freeze()
    found = datasets.row_of(frozen, RecordPlace("digits", 0, 7))
    assert isinstance(found, HeldRow)
    assert found.time == MOMENT
    for other in (RecordPlace("digits", 1, 7), RecordPlace("digits", 0, 300), RecordPlace("old.csv", 0, 7)):
        assert datasets.row_of(frozen, other) is None


def test_a_row_that_training_leaves_out_is_told_of_with_the_rule(freeze, store, world):
    frozen = freeze()
    manifest = Manifest.from_json(store.get(frozen.manifest))
    (taken,) = manifest.slices
    wanted = {rule: np.arange(300) == offset for rule, offset in (("nearDuplicates", 7), ("contaminated", 9))}
    parts = tuple(without(part, wanted) for part in taken.parts)
    slices = (taken.model_copy(update={"parts": parts}),)
    frozen = replace(frozen, manifest=store.put(manifest.model_copy(update={"slices": slices}).to_json()))
    datasets = StoredDatasets(store)
    found = [datasets.row_of(frozen, RecordPlace("digits", 0, offset)) for offset in (7, 8, 9, 300)]
    assert found[0] == HeldRow("train", MOMENT, "nearDuplicates")
    assert found[1] is not None
    assert not found[1].left_out
    assert found[2:] == [HeldRow("train", MOMENT, "contaminated"), None]


def test_a_row_of_a_backfill_is_found_by_its_source(freeze, store):
    datasets = StoredDatasets(store)
    digest = "sha256:" + "0" * 64
    file = Source(name="old.csv", digest=digest, number=-(2**30) - 1)
    assert datasets.row_of(freeze(file.number, file), RecordPlace("old.csv", 0, 7))
    assert datasets.row_of(freeze(0, file), RecordPlace("old.csv", 0, 7)) is None
    # A part of the stream's own topic came by a backfill, and the record by the stream.
    topic = Source(name="digits", digest=digest, number=-(2**30) - 2, end=5)
    assert datasets.row_of(freeze(0, topic), RecordPlace("digits", 0, 7))


def test_a_part_that_windows_share_is_read_once(freeze, store):
    datasets, frozen = StoredDatasets(store), freeze()
    store.gets = 0
    for _ in range(3):
        assert datasets.row_of(frozen, RecordPlace("digits", 0, 7))
    assert store.gets == 3 + 1
