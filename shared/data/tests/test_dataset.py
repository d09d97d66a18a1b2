import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.dataset import DatasetReader, class_indexes
from headrace_data.errors import BatchInvalid, DatasetInvalid, DatasetUnusable, ManifestInvalid
from headrace_data.manifest import Manifest, Provenance
from headrace_data.parts import default_part_rows, row_bytes
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.sketches import MAX_CLASSES
from headrace_data.spec import Field, Pipeline
from headrace_data.split import SPLITS, assign_splits
from headrace_data.windows import only_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def rows(pipeline: Pipeline, count: int, partitions: int = 3) -> pa.RecordBatch:
    """Rows of several producer partitions in turns, each partition with growing offsets and gaps."""
    generator = np.random.default_rng(count)
    values = [
        json.dumps(
            {
                "id": f"row-{row}",
                "team": row // 2,
                "image": generator.normal(0, 1, (2, 3)).clip(-4, 4).tolist(),
                "amount": row % 100,
                "age": row % 256,
                "kind": f"kind-{row % 7}",
            }
        ).encode()
        for row in range(count)
    ]
    checked = RecordChecker(pipeline.stream).check(
        values, [row % partitions - 1 for row in range(count)], [row // partitions * 3 for row in range(count)]
    )
    assert checked.rejected == []
    return checked.batch


def write(
    pipeline: Pipeline, store: MemoryStore, provenance: Provenance, *batches: pa.RecordBatch, part_rows: int = 16
) -> Manifest:
    writer = SegmentWriter(pipeline, store, part_rows)
    for batch in batches:
        writer.add(batch)
    return only_dataset(writer.finish(provenance), pipeline, store)


def test_rows_come_back_in_canonical_order(mixed: Pipeline, store: MemoryStore, provenance: Provenance) -> None:
    batch = rows(mixed, 200)
    manifest = write(mixed, store, provenance, batch)
    reader = DatasetReader(manifest, store)

    order = sorted(range(200), key=lambda row: (row % 3, row))
    sides = assign_splits(batch.column("team"), mixed.prepare.split)
    for number, split in enumerate(SPLITS):
        expected = batch.take(pa.array([row for row in order if sides[row] == number]))
        batches = list(reader.batches(split))
        assert pa.concat_batches(batches) == expected
        assert manifest.splits[split].rows == len(expected)
        assert all(len(one) <= 16 for one in batches)
    assert manifest.rows == 200
    assert manifest.classes == tuple(f"kind-{number}" for number in range(7))
    assert manifest.spec_digest == mixed.digest
    assert manifest.pipeline == "mixed"


def test_columns_have_the_shape_of_their_field(mixed: Pipeline, store: MemoryStore, provenance: Provenance) -> None:
    batch = rows(mixed, 100)
    reader = DatasetReader(write(mixed, store, provenance, batch), store)

    columns = reader.columns("train")
    stored = pa.Table.from_batches(reader.batches("train")).to_pydict()

    count = len(stored["id"])
    assert {name: (array.dtype, array.shape) for name, array in columns.items()} == {
        "image": (np.dtype(np.float32), (count, 2, 3)),
        "amount": (np.dtype(np.float64), (count,)),
        "age": (np.dtype(np.uint8), (count,)),
        "kind": (np.dtype(object), (count,)),
    }
    assert columns["image"].reshape(count, 6).tolist() == stored["image"]
    assert columns["kind"].tolist() == stored["kind"]


def test_transforms_are_fitted_on_the_training_rows(
    mixed: Pipeline, store: MemoryStore, provenance: Provenance
) -> None:
    manifest = write(mixed, store, provenance, rows(mixed, 300))
    training = DatasetReader(manifest, store).columns("train")

    np.testing.assert_allclose(manifest.transforms["image"].offset, training["image"].mean(axis=0), atol=1e-6)
    assert manifest.transforms["amount"].offset == training["amount"].min()


def test_the_manifest_survives_its_json(mixed: Pipeline, store: MemoryStore, provenance: Provenance) -> None:
    manifest = write(mixed, store, provenance, rows(mixed, 60))

    again = Manifest.from_json(manifest.to_json())

    assert again == manifest
    assert again.to_json() == manifest.to_json()
    assert again.label == mixed.stream.label
    assert again.features == mixed.stream.features
    assert json.loads(manifest.to_json())["slices"][0]["parts"][0]["partition"] == -1


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(30, 120), st.lists(st.integers(0, 120), max_size=6))
def test_a_dataset_does_not_depend_on_batches(
    mixed: Pipeline, provenance: Provenance, count: int, cuts: list[int]
) -> None:
    batch = rows(mixed, count)
    ends = sorted({0, count, *(cut for cut in cuts if cut <= count)})
    pieces = [batch.slice(start, end - start) for start, end in itertools.pairwise(ends)]
    # Producer partitions may interleave in any way: here one after another.
    apart = [batch.filter(pa.compute.equal(batch.column("_partition"), partition)) for partition in (1, -1, 0)]

    whole = write(mixed, MemoryStore(), provenance, batch)

    assert write(mixed, MemoryStore(), provenance, *pieces) == whole
    assert write(mixed, MemoryStore(), provenance, *apart) == whole


def test_the_id_does_not_depend_on_part_size_or_provenance(
    mixed: Pipeline, store: MemoryStore, provenance: Provenance
) -> None:
    batch = rows(mixed, 90)
    first = write(mixed, store, provenance, batch)
    second = write(mixed, store, provenance.model_copy(update={"topic_id": "other"}), batch, part_rows=1000)

    assert first.dataset_id == second.dataset_id
    np.testing.assert_allclose(first.transforms["image"].scale, second.transforms["image"].scale, rtol=1e-12)
    assert write(mixed, store, provenance, batch.slice(1)).dataset_id != first.dataset_id


def test_at_most_a_part_waits_in_memory(mixed: Pipeline, store: MemoryStore) -> None:
    writer = SegmentWriter(mixed, store, part_rows=8)
    batch = rows(mixed, 400)
    for start in range(0, 400, 40):
        writer.add(batch.slice(start, 40))
        assert writer.waiting < 3 * 8
    assert writer.rows == 400
    assert len(store.blobs) > 40


def test_little_waits_in_memory_of_many_partitions(
    mixed: Pipeline, store: MemoryStore, provenance: Provenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = rows(mixed, 400, partitions=20)
    in_whole_parts = write(mixed, MemoryStore(), provenance, batch, part_rows=128)
    monkeypatch.setattr("headrace_data.segments.WAITING_BYTES", 100 * row_bytes(mixed.stream.fields))
    monkeypatch.setattr("headrace_data.segments.default_chunk_rows", lambda _: 4)
    writer = SegmentWriter(mixed, store, part_rows=128)

    waited = []
    for start in range(0, 400, 40):
        writer.add(batch.slice(start, 40))
        waited.append(writer.waiting)

    assert max(waited) <= 100
    manifest = only_dataset(writer.finish(provenance), mixed, store)
    assert manifest.dataset_id == in_whole_parts.dataset_id
    assert [rows.num_rows for rows in DatasetReader(manifest, store).batches("train")]
    columns, whole = DatasetReader(manifest, store).columns("train"), in_whole_parts.splits["train"].rows
    assert len(columns["amount"]) == whole


def test_parts_are_about_as_large_in_memory() -> None:
    def width(shape: tuple[int, ...]) -> int:
        return default_part_rows([Field(name="x", type="float32", shape=shape, role="feature")])

    assert width((8, 8)) == 8 * 2**20 // (64 * 4 + 16)
    assert width((1024, 1024)) == 256
    assert width(()) == 262_144


def test_a_dataset_needs_rows_in_every_split(mixed: Pipeline, store: MemoryStore, provenance: Provenance) -> None:
    with pytest.raises(DatasetUnusable, match="expected rows in split train, got none among 0"):
        write(mixed, store, provenance)
    with pytest.raises(DatasetUnusable, match=r"expected rows in split \w+, got none among 2"):
        write(mixed, store, provenance, rows(mixed, 2))


def test_a_label_needs_two_values(mixed: Pipeline, store: MemoryStore, provenance: Provenance) -> None:
    batch = rows(mixed, 100)
    one = batch.set_column(5, batch.schema.field("kind"), pa.array(["same"] * 100))

    with pytest.raises(DatasetUnusable, match="at least two distinct values of label 'kind', got 1"):
        write(mixed, store, provenance, one)


def test_a_label_with_too_many_values_is_refused(mixed: Pipeline, store: MemoryStore, provenance: Provenance) -> None:
    batch = rows(mixed, MAX_CLASSES + 1)
    many = batch.set_column(5, batch.schema.field("kind"), batch.column("id"))

    with pytest.raises(DatasetUnusable, match="expected at most 10000 distinct values of label 'kind'"):
        write(mixed, store, provenance, many, part_rows=MAX_CLASSES)


def test_rows_of_another_stream_are_refused(mixed: Pipeline, digits: Pipeline, store: MemoryStore) -> None:
    with pytest.raises(BatchInvalid):
        SegmentWriter(digits, store).add(rows(mixed, 3))


def test_rows_that_come_twice_are_refused(mixed: Pipeline, store: MemoryStore) -> None:
    writer = SegmentWriter(mixed, store)
    writer.add(rows(mixed, 9))

    with pytest.raises(DatasetInvalid, match="after"):
        writer.add(rows(mixed, 9))


def test_a_damaged_part_is_refused(mixed: Pipeline, store: MemoryStore, provenance: Provenance) -> None:
    manifest = write(mixed, store, provenance, rows(mixed, 60))
    part = manifest.parts[0]
    store.blobs[part.uri] = store.blobs[part.uri][:-1] + b"?"

    with pytest.raises(ValueError, match="does not match its digest"):
        DatasetReader(manifest, store).columns("test")


@pytest.mark.parametrize("change", ["bytes", "columns", "rows"])
def test_a_part_that_is_another_file_is_refused(
    mixed: Pipeline, digits: Pipeline, store: MemoryStore, provenance: Provenance, change: str
) -> None:
    manifest = write(mixed, store, provenance, rows(mixed, 60))
    other = {
        "bytes": lambda: store.put(b"no parquet"),
        "columns": lambda: store.put(parquet(pa.table({"x": [1]}))),
        "rows": lambda: store.put(parquet(pa.Table.from_batches([rows(mixed, 60)]))),
    }[change]()
    document = json.loads(manifest.to_json())
    document["slices"][0]["parts"][0] |= {"uri": other.uri, "digest": other.digest, "size_bytes": other.size_bytes}
    reader = DatasetReader(Manifest.from_json(json.dumps(document).encode()), store)

    with pytest.raises(DatasetInvalid, match=r"expected .* memory://"):
        reader.columns("test")


def parquet(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    "change",
    [
        {"dataset_id": "sha256:0"},
        {"splits": {}},
        {"classes": [1.5]},
        {"fields": []},
        {"transforms": 5},
        {"transforms": [{}]},
        {"surplus": 1},
        {"provenance": None},
    ],
)
def test_other_documents_are_no_manifest(
    mixed: Pipeline, store: MemoryStore, provenance: Provenance, change: dict[str, object]
) -> None:
    document = json.loads(write(mixed, store, provenance, rows(mixed, 60)).to_json())

    with pytest.raises(ManifestInvalid):
        Manifest.from_json(json.dumps(document | change).encode())


def test_rows_of_before_a_field_became_nullable_join_those_of_after(
    mixed: Pipeline, store: MemoryStore, provenance: Provenance
) -> None:
    batch = rows(mixed, 200)
    strict = pa.schema([field.with_nullable(False) for field in batch.schema])
    assert strict != batch.schema
    before = pa.RecordBatch.from_arrays(batch.slice(0, 90).columns, schema=strict)

    joined = write(mixed, store, provenance, before, batch.slice(90))

    assert joined == write(mixed, store, provenance, batch)


def test_finishing_calls_for_each_part_that_is_written(
    mixed: Pipeline, store: MemoryStore, provenance: Provenance
) -> None:
    calls: list[int] = []
    writer = SegmentWriter(mixed, store, 16)
    writer.add(rows(mixed, 200))
    written = len(store.blobs)

    writer.finish(provenance, lambda: calls.append(len(store.blobs)))

    assert calls == list(range(written + 1, len(store.blobs) + 1))


def test_a_dataset_counts_its_rows(mixed: Pipeline, store: MemoryStore, provenance: Provenance) -> None:
    document = json.loads(write(mixed, store, provenance, rows(mixed, 60)).to_json())
    counted = document["splits"]["train"]["rows"]
    for wrong in (counted + 1, counted - 1):
        document["splits"]["train"]["rows"] = wrong
        reader = DatasetReader(Manifest.from_json(json.dumps(document).encode()), store)
        with pytest.raises(DatasetInvalid, match=f"expected {wrong} rows in split train, got {counted}"):
            reader.columns("train")


def test_labels_have_a_place_among_the_classes() -> None:
    words = np.array(["b", "a", "b"], dtype=object)

    assert class_indexes(words, ("a", "b")).tolist() == [1, 0, 1]
    assert class_indexes(np.array([30, -1]), (-1, 7, 30)).tolist() == [2, 0]
    with pytest.raises(ValueError, match="among 2 classes, got 'c'"):
        class_indexes(np.array(["c"], dtype=object), ("a", "b"))
    with pytest.raises(ValueError, match="among 2 classes, got"):
        class_indexes(np.array([5]), (1, 7))
