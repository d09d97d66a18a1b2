"""Windows over segments: which rows they take, what is known of them, and what they are called."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetInvalid, DatasetUnusable, ManifestInvalid
from headrace_data.history import History, keep, prepared_under
from headrace_data.manifest import Manifest
from headrace_data.sketch_files import from_bytes, to_bytes
from headrace_data.sketches import Sketch
from headrace_data.spec import load_pipeline
from headrace_data.split import SPLITS
from headrace_data.windows import Windows, only_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import MemoryStore
from .many_days import DAY, days, history_of, ids, rows_of, segment_of


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.mark.parametrize(
    ("window", "taken"),
    [
        ("new", range(4 * DAY, 5 * DAY)),
        ("all", range(5 * DAY)),
        # Counted from the newest row, which is 24 minutes before the end of its day.
        ("{last: 2d}", range(3 * DAY - 1, 5 * DAY)),
        ("{last: 24h}", range(4 * DAY - 1, 5 * DAY)),
        ("{last: 365d}", range(5 * DAY)),
        ("{rows: 60}", range(4 * DAY, 5 * DAY)),
        ("{rows: 100}", range(5 * DAY - 100, 5 * DAY)),
        ("{rows: 1000}", range(5 * DAY)),
    ],
)
def test_a_window_takes_its_rows(store: MemoryStore, window: str, taken: range) -> None:
    pipeline = days(window)
    manifest, _ = Windows(pipeline, store).dataset(history_of(pipeline, store, 5))

    assert ids(manifest, store) == list(taken)
    assert manifest.rows == len(taken)
    assert Manifest.from_json(manifest.to_json()) == manifest
    columns = DatasetReader(manifest, store).columns_of(SPLITS)
    for name, split in manifest.splits.items():
        assert len(columns[name]["y"]) == split.rows > 0


def test_a_window_is_fitted_as_if_its_rows_were_one_segment(store: MemoryStore) -> None:
    pipeline = days("all", scale="robust")
    manifest, _ = Windows(pipeline, store).dataset(history_of(pipeline, store, 4))

    whole = only_dataset(segment_of(pipeline, store, *(rows_of(pipeline, day) for day in range(4))), pipeline, store)

    assert manifest.transforms == whole.transforms
    assert manifest.classes == whole.classes == (0, 1)
    assert manifest.splits == whole.splits
    assert {part.digest for part in manifest.parts}.isdisjoint(part.digest for part in whole.parts)


def test_one_whole_segment_keeps_its_id_and_any_other_dataset_has_one_of_its_own(store: MemoryStore) -> None:
    pipeline = days()
    history = history_of(pipeline, store, 3)
    newest = history.entries[-1].segment_id

    found = {
        name: Windows(other, store).dataset(history)[0].dataset_id
        for name, other in {
            "new": pipeline,
            "rows": days("{rows: 60}"),
            "part": days("{rows: 59}"),
            "more": days("{rows: 61}"),
            "all": days("all"),
            "salt": days(salt="b"),
            "stricter": days(high=50),
            "scale": days(scale="robust"),
        }.items()
    }

    assert found["new"] == found["rows"] == newest
    assert len(set(found.values())) == len(found) - 1


def test_a_changed_split_needs_no_new_parts(store: MemoryStore) -> None:
    history = history_of(days(), store, 3)
    parts = {part.digest for part in Windows(days("all"), store).dataset(history)[0].parts}

    moved, renewed = Windows(days("all", salt="b"), store).dataset(history)

    assert {part.digest for part in moved.parts} == parts
    assert ids(moved, store) == list(range(3 * DAY))
    assert [entry.sketched for entry in renewed.entries] != [entry.sketched for entry in history.entries]
    assert renewed.prepared == prepared_under(days("all", salt="b"))
    again, same = Windows(days("all", salt="b"), store).dataset(renewed)
    assert (again, same) == (moved, renewed)


def test_stricter_cleaning_holds_for_segments_that_exist(store: MemoryStore) -> None:
    history = history_of(days(), store, 2)

    stricter, _ = Windows(days("all", high=50, missing="drop"), store).dataset(history)

    reader = DatasetReader(stricter, store)
    values = [value for split in SPLITS for batch in reader.batches(split) for value in batch.column("x").to_pylist()]
    assert None not in values
    assert max(values) <= 50
    assert 0 < stricter.rows == len(values) < 2 * DAY


@pytest.mark.parametrize(
    ("window", "choices"),
    [("all", {}), ("{rows: 63}", {}), ("{rows: 130}", {"high": 50, "missing": "drop"}), ("all", {"salt": "b"})],
)
def test_a_split_is_read_part_by_part_as_it_is_at_once(
    store: MemoryStore, window: str, choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = history_of(days(), store, 3)
    manifest, _ = Windows(days(window, **choices), store).dataset(history)
    reader = DatasetReader(manifest, store)

    for split in SPLITS:
        at_once = pa.Table.from_batches(reader.batches(split)).select(["x", "kind", "y"])
        first, again = (
            pa.Table.from_batches([rows for part in reader.parts(split) for rows in part()]) for _ in range(2)
        )
        assert first.to_pylist() == again.to_pylist() == at_once.to_pylist()
        assert first.num_rows == manifest.splits[split].rows
    # What was found once is not looked for again, and parts without a row of the split are not read.
    monkeypatch.setattr("headrace_data.dataset.splits_of", None)
    monkeypatch.setattr(store, "get", counted := Counted(store.get))
    held = [sum(map(len, part())) for part in reader.parts("test")]
    assert sum(held) == manifest.splits["test"].rows
    assert counted.calls == len(held) - held.count(0)
    assert window != "{rows: 63}" or 0 in held


class Counted:
    """Counts the calls of a function."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.calls = 0

    def __call__(self, *given: Any) -> Any:
        self.calls += 1
        return self._function(*given)


def test_a_new_nullable_field_is_null_in_segments_of_before(store: MemoryStore) -> None:
    history = history_of(days(), store, 2)
    document = json.loads(days("all").canonical_json())
    document["stream"]["schema"].insert(3, {"name": "z", "type": "float64", "role": "feature", "nullable": True})
    document["stream"]["schema"][1]["type"] = "float64"
    document["prepare"]["transform"]["z"] = {"impute": {"constant": 7}}
    grown = load_pipeline(json.dumps(document))

    manifest, _ = Windows(grown, store).dataset(history)

    columns = DatasetReader(manifest, store).columns("train")
    assert np.isnan(columns["z"]).all()
    assert columns["x"].dtype == np.float64


def test_only_segments_that_a_bound_cuts_are_read_again(store: MemoryStore) -> None:
    pipeline = days("{last: 2d}")
    history = history_of(pipeline, store, 6)
    read: list[str] = []
    manifests = [json.loads(store.blobs[entry.manifest.uri]) for entry in history.entries]
    parts = {part["uri"] for manifest in manifests for part in manifest["parts"]}
    get = store.get

    def counted(blob: Any) -> bytes:
        if blob.uri in parts:
            read.append(blob.uri)
        return get(blob)

    store.get = counted  # type: ignore[method-assign]
    Windows(pipeline, store).dataset(history)

    assert set(read) <= {part["uri"] for part in manifests[3]["parts"]}
    assert len(read) == 1


def test_rows_without_a_time_come_before_all_others(store: MemoryStore) -> None:
    pipeline = days("{last: 30d}")
    old = history_of(pipeline, store, 1, timed=False)
    with pytest.raises(DatasetUnusable, match="expected rows with an event time"):
        Windows(pipeline, store).dataset(old)

    history = old.and_cut(keep(segment_of(pipeline, store, rows_of(pipeline, 1)), pipeline, store))

    assert ids(Windows(pipeline, store).dataset(history)[0], store) == list(range(DAY, 2 * DAY))
    newest = Windows(days("{rows: 70}"), store).dataset(history)[0]
    assert newest.rows == 70
    assert set(range(DAY, 2 * DAY)) < set(ids(newest, store))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 59), max_size=4), st.sampled_from(["standard", "minmax", "robust", "none"]))
def test_sketches_merge_and_survive_their_bytes(cuts: list[int], scale: str) -> None:
    pipeline = days(scale=scale)
    batch = rows_of(pipeline, 0, partitions=1)
    splits = (np.arange(DAY) % 3).astype(np.int8)
    ends = sorted({0, DAY, *cuts})
    whole, merged = Sketch(pipeline), Sketch(pipeline)
    whole.add(batch, 0, splits)
    for start, end in itertools.pairwise(ends):
        piece = Sketch(pipeline)
        piece.add(batch.slice(start, end - start), 0, splits[start:end])
        merged.merge(from_bytes(to_bytes(piece), pipeline))

    for name in SPLITS:
        one, other = whole.sides[name], merged.sides[name]
        assert (one.rows, one.texts) == (other.rows, other.texts)
        np.testing.assert_allclose(one.numbers["x"].moments().deviation, other.numbers["x"].moments().deviation)
    assert whole.labels == merged.labels
    sample, same = whole.sides["train"].numbers["x"].sample, merged.sides["train"].numbers["x"].sample
    assert sample is not None
    assert same is not None
    assert sorted(sample.values().ravel()) == sorted(same.values().ravel())
    assert to_bytes(from_bytes(to_bytes(whole), pipeline)) == to_bytes(whole)


def test_a_category_with_too_many_values_in_all_segments_is_told_of(store: MemoryStore) -> None:
    pipeline = days("all")
    history = History(pipeline=pipeline.name)
    for day in range(2):
        batch = rows_of(pipeline, day)
        texts = pa.array([f"{day}-{row}" for row in range(DAY)])
        batch = batch.set_column(2, batch.schema.field("kind"), texts)
        history = history.and_cut(keep(segment_of(pipeline, store, batch), pipeline, store))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headrace_data.sketches.MAX_CATEGORIES", 50)
        with pytest.raises(DatasetUnusable, match="at most 50 categories of 'kind'"):
            Windows(pipeline, store).dataset(history)


@pytest.mark.parametrize("data", [b"", b"\x00", b"PK\x03\x04", b"{}"])
def test_what_is_no_sketch_or_history_is_refused(data: bytes) -> None:
    with pytest.raises(DatasetInvalid, match="expected the sketch of a segment"):
        from_bytes(data, days())
    with pytest.raises(ManifestInvalid, match="expected a pipeline's history"):
        History.from_json(data)
