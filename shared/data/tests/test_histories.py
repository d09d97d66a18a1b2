"""Segments of other times, clocks and schemas in one history, and what is known of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.batches import evolved, require_columns, widens
from headrace_data.dataset import DatasetReader
from headrace_data.errors import BatchInvalid, DatasetUnusable
from headrace_data.history import History, keep
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline
from headrace_data.windows import Windows

from .conftest import MemoryStore
from .many_days import DAY, days, history_of, ids, rows_of, segment_of


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_rows_of_before_a_field_are_evolved_and_others_left_as_they_are() -> None:
    before = rows_of(days(), 0)
    document = json.loads(days().canonical_json())
    document["stream"]["schema"].insert(3, {"name": "z", "type": "float64", "role": "feature", "nullable": True})
    document["stream"]["schema"][1]["type"] = "float64"
    document["prepare"]["transform"]["z"] = {"impute": {"constant": 7}}
    fields = load_pipeline(json.dumps(document)).stream.fields

    grown = evolved(before, fields)

    require_columns(grown, fields)
    assert grown.column("z").null_count == DAY
    assert grown.column("x").cast(pa.float32()) == before.column("x")
    assert evolved(grown, fields) is grown
    # Neither fewer fields nor narrower ones.
    assert evolved(grown, days().stream.fields) is grown
    with pytest.raises(BatchInvalid):
        require_columns(evolved(grown.drop_columns(["z", "id"]), fields), fields)


def test_a_window_of_time_takes_no_row_without_one(store: MemoryStore) -> None:
    pipeline = days("{last: 2d}")
    untimed = rows_of(pipeline, 0, partitions=2, timed=False)
    segment = segment_of(pipeline, store, untimed, rows_of(pipeline, 1, partitions=2))
    entry = keep(segment, pipeline, store)
    assert (entry.first_time, entry.last_time) != (None, None)

    manifest, _ = Windows(pipeline, store).dataset(History(pipeline=pipeline.name).and_cut(entry))

    assert ids(manifest, store) == list(range(DAY, 2 * DAY))


def test_a_window_counts_back_from_times_of_its_own_kind(store: MemoryStore) -> None:
    by_kafka = days("{last: 2d}")
    document = json.loads(by_kafka.canonical_json())
    document["stream"]["time"] = "at"
    by_field = load_pipeline(json.dumps(document))
    history = History(pipeline="days").and_cut(
        keep(segment_of(by_kafka, store, rows_of(by_kafka, 90)), by_kafka, store)
    )
    with pytest.raises(DatasetUnusable, match="by the key 'at', to count a window back from"):
        Windows(by_field, store).dataset(history)

    # What the field tells of happened long before Kafka wrote it.
    history = history.and_cut(keep(segment_of(by_field, store, rows_of(by_kafka, 5)), by_field, store))

    assert set(range(5 * DAY, 6 * DAY)) <= set(ids(Windows(by_field, store).dataset(history)[0], store))


def test_one_dataset_has_one_fit_whenever_it_is_made(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_data.sketch_files.KEPT_ROWS", 8)
    pipeline = days(scale="robust")
    segment = segment_of(pipeline, store, *(rows_of(pipeline, day) for day in range(3)))
    entry = keep(segment, pipeline, store)
    history = History(pipeline=pipeline.name).and_cut(entry)
    at_the_cut, _ = Windows(pipeline, store, fresh={entry.segment_id: segment.sketch}).dataset(history)

    later, _ = Windows(pipeline, store).dataset(history)

    assert later.dataset_id == at_the_cut.dataset_id
    assert later.transforms == at_the_cut.transforms


def test_a_sketch_that_is_lost_is_made_again(store: MemoryStore) -> None:
    pipeline = days("all")
    history = history_of(pipeline, store, 3)
    whole, _ = Windows(pipeline, store).dataset(history)
    lost = history.entries[1].sketch
    assert lost is not None
    store.blobs[lost.uri] = b"no sketch"
    get = store.get

    def damaged(blob: Any) -> bytes:
        return store.blobs[blob.uri] if blob.uri == lost.uri else get(blob)

    store.get = damaged  # type: ignore[method-assign]

    again, _ = Windows(pipeline, store).dataset(history)

    assert again == whole


def test_what_was_sketched_anew_is_known_though_no_dataset_comes_of_it(store: MemoryStore) -> None:
    history = history_of(days(), store, 2)
    windows = Windows(days("all", salt="b", high=1, missing="drop"), store)

    with pytest.raises(DatasetUnusable):
        windows.dataset(history)

    assert [entry.sketched for entry in windows.known(history).entries] != [each.sketched for each in history.entries]


@pytest.mark.parametrize(("narrow", "wide"), [("int16", "int32"), ("float32", "float64"), ("uint8", "float32")])
def test_lists_with_gaps_are_widened(store: MemoryStore, narrow: str, wide: str) -> None:
    document = json.loads(days().canonical_json())
    pair = {"name": "pair", "type": narrow, "shape": [2], "role": "feature", "nullable": True}
    document["stream"]["schema"].insert(3, pair)
    document["prepare"]["transform"]["pair"] = {"impute": "mean"}
    before = load_pipeline(json.dumps(document))
    pair["type"] = wide
    document["prepare"]["window"] = "all"
    after = load_pipeline(json.dumps(document))
    values = [
        json.dumps({"id": row, "x": 1.0, "kind": "a", "y": row % 2, "pair": None if row % 3 else [row, 7]}).encode()
        for row in range(DAY)
    ]
    batch = RecordChecker(before.stream).check(values, [0] * DAY, range(DAY)).batch
    history = History(pipeline="days").and_cut(keep(segment_of(before, store, batch), before, store))

    manifest, _ = Windows(after, store).dataset(history)

    columns = DatasetReader(manifest, store).columns("train")
    assert np.nanmax(columns["pair"][:, 0]) == max(row for row in columns["pair"][:, 0] if not np.isnan(row))
    assert evolved(batch, after.stream.fields).column("pair").null_count == batch.column("pair").null_count


def test_whole_numbers_of_64_bits_do_not_become_float64() -> None:
    assert not widens(pa.int64(), pa.float64())
    assert widens(pa.int32(), pa.float64())
    assert widens(pa.int32(), pa.int64())
