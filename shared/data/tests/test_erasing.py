"""Rows that are erased: their values are gone, and ids, leaves and whatever else is read of their datasets stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from headrace_data.batches import PARTITION, arrow_schema
from headrace_data.dataset import DatasetReader
from headrace_data.erasing import (
    LEAVES,
    dataset_without,
    erase,
    has_columns_of,
    keys_in,
    leaves,
    rows_by_split,
    segment_without,
)
from headrace_data.forgotten import FORGOTTEN, Suppression, forgotten, key_text, known
from headrace_data.history import History, entry_of, keep
from headrace_data.identity import MerkleTree
from headrace_data.manifest import Manifest, Part, Provenance, SegmentManifest
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline
from headrace_data.split import SPLITS
from headrace_data.stream_keys import newest_keys
from headrace_data.windows import Windows, fitted_anew, only_dataset

from .conftest import MemoryStore

SECRET = b"s" * 32
OTHER = b"o" * 32
ROWS = 120
KEY = "person-7"


def rows(pipeline: Pipeline, count: int = ROWS) -> pa.RecordBatch:
    """Return rows of which each fifteenth has the key."""
    columns: dict[str, Any] = {
        "id": [KEY if row % 15 == 7 else f"person-{row + 1000}" for row in range(count)],
        "team": [row % 20 for row in range(count)],
        "image": [None if row % 9 == 0 else [0.5 + row % 3] * 6 for row in range(count)],
        "amount": [77.125 if row % 15 == 7 else float(row % 60) for row in range(count)],
        "age": [None if row % 11 == 0 else row % 80 for row in range(count)],
        "kind": ["abc"[row % 3] for row in range(count)],
        "_partition": [row % 2 for row in range(count)],
        "_offset": list(range(count)),
        "_index": [0] * count,
        "_time": [1_000_000 * (row + 1) for row in range(count)],
    }
    schema = arrow_schema(pipeline.stream.fields)
    arrays = [pa.array(columns[each.name], each.type) for each in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def merkle_root(parts: Sequence[Part], pipeline: Pipeline, store: MemoryStore) -> bytes:
    trees: dict[int, MerkleTree] = {}
    for part in parts:
        trees.setdefault(part.partition, MerkleTree()).extend(leaves(part, pipeline.stream.fields, store))
    top = MerkleTree()
    for partition in sorted(trees):
        top.append(trees[partition].root())
    return top.root()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def erased_of(parts: Sequence[Part], pipeline: Pipeline, store: MemoryStore) -> tuple[dict[str, Any], dict[str, Part]]:
    suppression = Suppression([forgotten(KEY, SECRET)], lambda _: SECRET)
    masks = {part.digest: suppression.among(keys_in(store.get(part), "id")) for part in parts}
    return masks, {
        part.digest: erase(part, masks[part.digest], pipeline.stream.fields, store)
        for part in parts
        if masks[part.digest].any()
    }


def test_values_leave_parts_and_what_names_the_rows_stands(
    mixed: Pipeline, provenance: Provenance, store: MemoryStore
) -> None:
    writer = SegmentWriter(mixed, store, part_rows=64)
    writer.add(rows(mixed))
    segment = writer.finish(provenance)
    entry = keep(segment, mixed, store)
    windows = Windows(mixed, store, fresh={entry.segment_id: segment.sketch})
    before, _ = windows.dataset(History(pipeline=mixed.name).and_cut(entry))
    root = merkle_root(segment.manifest.parts, mixed, store)
    there = {name: len(columns["amount"]) for name, columns in DatasetReader(before, store).columns_of(SPLITS).items()}

    masks, erased = erased_of(segment.manifest.parts, mixed, store)
    counts = rows_by_split(before, masks, store)
    after = dataset_without(before, erased, counts)
    renewed = segment_without(segment.manifest, erased)
    assert sum(int(mask.sum()) for mask in masks.values()) == counts.total() == 8
    for part in renewed.parts:
        data = store.get(part)
        assert KEY not in repr(pq.read_table(pa.BufferReader(data)).to_pydict())
        assert 77.125 not in pq.read_table(pa.BufferReader(data))["amount"].to_pylist()
        assert has_columns_of(part, mixed.stream.fields, store)
    assert merkle_root(renewed.parts, mixed, store) == root
    assert (renewed.segment_id, after.dataset_id) == (segment.manifest.segment_id, before.dataset_id)
    assert Manifest.from_json(after.to_json()) == after
    assert SegmentManifest.from_json(renewed.to_json()) == renewed
    assert after.provenance.rejected[FORGOTTEN] == 8

    for reader in (DatasetReader(after, store), DatasetReader(Manifest.from_json(after.to_json()), store)):
        found = reader.columns_of(SPLITS)
        assert {name: len(columns["amount"]) for name, columns in found.items()} == {
            name: there[name] - counts[name] for name in SPLITS
        }
        assert all(77.125 not in columns["amount"] for columns in found.values())
        assert all(np.isfinite(columns["amount"]).all() for columns in found.values())
        by_part = [sum(len(batch) for read in reader.parts(name) for batch in read()) for name in SPLITS]
        again = [sum(len(batch) for read in reader.parts(name) for batch in read()) for name in SPLITS]
        assert by_part == again == [there[name] - counts[name] for name in SPLITS]

    # A part of which more rows are erased keeps the leaves of those before.
    twice = erase(renewed.parts[0], np.arange(renewed.parts[0].rows) == 0, mixed.stream.fields, store)
    assert merkle_root([twice, *renewed.parts[1:]], mixed, store) == root
    assert twice.held == renewed.parts[0].held - 1


def test_datasets_of_before_keep_their_ids_and_new_ones_have_others(
    mixed: Pipeline, provenance: Provenance, store: MemoryStore
) -> None:
    writer = SegmentWriter(mixed, store, part_rows=64)
    writer.add(rows(mixed))
    segment = writer.finish(provenance)
    before = only_dataset(segment, mixed, store)
    _, erased = erased_of(segment.manifest.parts, mixed, store)
    renewed = segment_without(segment.manifest, erased)
    entry = entry_of(renewed, store.put(renewed.to_json()))
    history = Windows(mixed, store).sketched(History(pipeline=mixed.name).and_cut(entry))
    after, _ = Windows(mixed, store).dataset(history)

    assert before.dataset_id == renewed.segment_id == history.entries[0].segment_id != after.dataset_id
    assert after.rows == ROWS - 8
    assert after.provenance.rejected == {FORGOTTEN: 8}
    assert after.transforms.to_plain() == fitted_anew(after, mixed, store, lambda: None).to_plain()
    assert after.transforms.to_plain() != before.transforms.to_plain()
    assert (entry.first_time, entry.last_time) == (1_000_000, ROWS * 1_000_000)
    # One part holds a window of keys: those of rows that stand.
    assert sum(len(each.digests) for each in newest_keys(history, mixed, store)) == ROWS // 2 - 4


def test_a_dataset_of_before_there_were_segments_is_read_without_the_rows(
    mixed: Pipeline, provenance: Provenance, store: MemoryStore
) -> None:
    writer = SegmentWriter(mixed, store)
    writer.add(rows(mixed))
    made = only_dataset(writer.finish(provenance), mixed, store)
    held, (part, *others) = MemoryStore(), made.parts
    held.blobs = store.blobs
    splits = {name: split.model_copy(update={"rows": 0, "parts": ()}) for name, split in made.splits.items()}
    splits["train"] = splits["train"].model_copy(update={"rows": part.rows, "parts": (part,)})
    before = made.model_copy(update={"slices": (), "reading": None, "splits": splits})
    masks, erased = erased_of([part], mixed, store)
    after = Manifest.from_json(dataset_without(before, erased, rows_by_split(before, masks, store)).to_json())

    assert others
    assert after.splits["train"].rows == part.rows - int(masks[part.digest].sum()) < part.rows
    assert KEY not in [key for batch in DatasetReader(after, store).batches("train") for key in batch["id"].to_pylist()]
    assert len(DatasetReader(after, store).columns("train")["amount"]) == after.splits["train"].rows
    read = [batch for part in DatasetReader(after, store).parts("train") for batch in part()]
    assert sum(map(len, read)) == after.splits["train"].rows
    assert SegmentManifest.from_json(after.to_json()).parts[0].held == after.splits["train"].rows


def test_keys_are_told_by_digests_that_each_name_their_secret(mixed: Pipeline) -> None:
    keys = [forgotten("a", SECRET), forgotten("7", OTHER)]
    secrets = {keys[0].secret: SECRET, keys[1].secret: OTHER}
    suppression = Suppression(keys, secrets.__getitem__)

    assert suppression.among(pa.array(["a", "b", None, "7", "07"])).tolist() == [True, False, False, True, False]
    assert suppression.among(pa.array([7, -7, None], pa.int64())).tolist() == [True, False, False]
    assert not Suppression((), secrets.__getitem__)
    assert known(keys, keys[1]) == tuple(keys)
    assert known(keys[:1], keys[1]) == tuple(keys)
    team = mixed.stream.field("team")
    assert key_text("007", team) == "7"
    assert key_text("007", mixed.stream.field("id")) == "007"
    with pytest.raises(ValueError, match="expected a key of type int64, as field 'team' has it"):
        key_text("seven", team)
    batch = rows(mixed, 15)
    left, gone = Suppression([forgotten(KEY, SECRET)], lambda _: SECRET).without(batch, mixed)
    assert [each.position for each in gone] == [7]
    assert {each.rule for each in gone} == {FORGOTTEN}
    assert len(left) == 14
    assert LEAVES not in left.schema.names
    assert PARTITION in left.schema.names


def test_bytes_that_hold_no_keys_have_none() -> None:
    assert keys_in(b"PAR1 and no file", "id") is None
    assert keys_in(b"", "id") is None
