"""Segments that are made again of the log: by other rules, in their places, and only where the log has all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from headrace_data.cleaning import clean
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetUnusable
from headrace_data.files import Rows
from headrace_data.history import History, keep
from headrace_data.manifest import Manifest, OffsetRange, Provenance
from headrace_data.rebuild import Log, Rebuild
from headrace_data.records import RecordChecker
from headrace_data.seen_keys import SeenKeys
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.split import SPLITS
from headrace_data.stream_keys import duplicates_of, newest_keys
from headrace_data.windows import Windows

from .conftest import MemoryStore
from .many_days import DAY, days

START_US = 1_767_225_600_000_000
DAY_US = 86_400_000_000
DAYS = 4


def record(number: int) -> bytes:
    """The record of an offset; every tenth repeats the key of the one five before, and x grows up to 100."""
    identity = number - 5 if number % 10 == 9 else number
    return json.dumps({"id": identity, "x": float(number % 101), "kind": "abc"[number % 3], "y": number % 2}).encode()


def rows(start: int, end: int) -> Rows:
    numbers = range(start, end)
    times = np.array([START_US + number * DAY_US // DAY for number in numbers], "datetime64[us]")
    return Rows(numbers, [record(number) for number in numbers], times)


def log(first: int = 0, topic_id: str = "t") -> Log:
    def read(_partition: int, start: int, end: int) -> Iterator[Rows]:
        for piece in range(start, end, 17):
            yield rows(piece, min(piece + 17, end))

    return Log(topic_id, {0: (first, DAYS * DAY)}, read)


def cut(pipeline: Pipeline, store: MemoryStore) -> History:
    """The history of a stream that was cut each day, as preprocessing cleans it."""
    history, seen = History(pipeline=pipeline.name), SeenKeys(pipeline.prepare.clean.remembered)
    for day in range(DAYS):
        found = rows(day * DAY, (day + 1) * DAY)
        checker, places = RecordChecker(pipeline.stream), [0] * DAY
        batch = checker.check(found.values, places, list(found.numbers), None, found.times).batch
        writer = SegmentWriter(pipeline, store)
        writer.add(clean(batch, pipeline, seen).batch)
        seen.commit()
        source = OffsetRange(partition=0, start=day * DAY, end=(day + 1) * DAY)
        origin: dict[str, Any] = {"cluster_id": "c", "topic": "days", "topic_id": "t", "clean_ranges": ()}
        segment = writer.finish(Provenance(**origin, sources=(source,), rejected={}))
        history = history.and_cut(keep(segment, pipeline, store))
    return history


def rebuilt(pipeline: Pipeline, store: MemoryStore, history: History, found: Log, since_us: int | None) -> Rebuild:
    done = Rebuild(pipeline, store, history, 2e9, lambda: None)
    done.take(found, since_us, None)
    return done


def ids(manifest: Manifest, store: MemoryStore) -> list[int]:
    reader = DatasetReader(manifest, store)
    return sorted(row for split in SPLITS for batch in reader.batches(split) for row in batch.column("id").to_pylist())


def test_segments_of_then_are_those_that_would_have_been_cut_by_the_rules_of_now() -> None:
    store = MemoryStore()
    narrow, wide = days("all", high=50), days("all", high=1000)
    history = cut(narrow, store)

    done = rebuilt(wide, store, history, log(), START_US + 2 * DAY_US)

    assert [one == other for one, other in zip(history.entries, done.history.entries, strict=True)] == [
        True,
        True,
        False,
        False,
    ]
    expected = cut(wide, store)
    assert [each.segment_id for each in done.history.entries[2:]] == [each.segment_id for each in expected.entries[2:]]
    manifest, _ = Windows(wide, store, fresh=done.fresh).dataset(done.history)
    whole = ids(Windows(wide, store).dataset(expected)[0], store)
    assert [key for key in whole if key >= 2 * DAY] == [key for key in ids(manifest, store) if key >= 2 * DAY]
    assert done.rejected["duplicates"] == 2 * DAY // 10
    assert done.rows == sum(each.rows for each in expected.entries[2:])


def test_what_comes_out_as_it_was_stays_and_a_repeat_changes_nothing() -> None:
    store, pipeline = MemoryStore(), days("all")
    history = cut(pipeline, store)

    done = rebuilt(pipeline, store, history, log(), None)

    assert done.history == history
    assert (done.rows, done.known) == (0, history.rows)
    done.require_rows()


@pytest.mark.parametrize(
    ("found", "reason"),
    [(log(topic_id="another"), "topic days was made anew"), (log(first=DAYS * DAY - 1), "the log has 239 to 239")],
)
def test_what_the_log_has_not_all_of_stays_as_it_is(found: Log, reason: str) -> None:
    store = MemoryStore()
    history = cut(days("all", high=50), store)

    done = rebuilt(days("all"), store, history, found, None)

    assert done.history == history
    assert len(done.faults) == DAYS
    assert reason in done.faults[0]
    with pytest.raises(DatasetUnusable, match="expected a segment that can be made again, got none"):
        done.require_rows()


def over_stream(window: int | str, high: int) -> Pipeline:
    document = json.loads(days("all", high=high).canonical_json())
    document["prepare"]["clean"] |= {"duplicateScope": "stream", "duplicateWindow": window}
    return load_pipeline(json.dumps(document))


def cut_over_stream(pipeline: Pipeline, store: MemoryStore, found: Log) -> History:
    """The history of a stream that was cut each day, duplicates of other partitions left out at the cut."""
    history = History(pipeline=pipeline.name)
    checker, seen = RecordChecker(pipeline.stream), {each: SeenKeys(DAY * DAYS) for each in found.bounds}
    for day in range(DAYS):
        batches = []
        for partition, keys in seen.items():
            for each in found.rows(partition, day * DAY, (day + 1) * DAY):
                places = [partition] * len(each.values)
                batch = checker.check(each.values, places, list(each.numbers), None, each.times).batch
                batches.append(clean(batch, pipeline, keys).batch)
                keys.commit()
        duplicates = duplicates_of(batches, pipeline, partial(newest_keys, history, pipeline, store))
        writer = SegmentWriter(pipeline, store)
        for batch in batches:
            writer.add(batch.take(np.setdiff1d(np.arange(len(batch)), duplicates.among(batch))))
        sources = tuple(OffsetRange(partition=each, start=day * DAY, end=(day + 1) * DAY) for each in seen)
        origin: dict[str, Any] = {"cluster_id": "c", "topic": "days", "topic_id": "t", "clean_ranges": ()}
        history = history.and_cut(
            keep(writer.finish(Provenance(**origin, sources=sources, rejected={})), pipeline, store)
        )
    return history


@pytest.mark.parametrize("window", [100_000, "30d"])
def test_what_came_in_two_partitions_stays_once_when_it_is_made_again(window: int | str) -> None:
    def read(_partition: int, start: int, end: int) -> Iterator[Rows]:
        for piece in range(start, end, 17):
            yield rows(piece, min(piece + 17, end))

    twice = Log("t", {0: (0, DAYS * DAY), 3: (0, DAYS * DAY)}, read)
    store, narrow, wide = MemoryStore(), over_stream(window, high=50), over_stream(window, high=1000)
    history = cut_over_stream(narrow, store, twice)
    same = rebuilt(narrow, store, history, twice, None)
    assert same.history == history
    assert same.known == history.rows

    done = rebuilt(wide, store, history, twice, START_US + 2 * DAY_US)

    expected = cut_over_stream(wide, store, twice)
    assert [each.segment_id for each in done.history.entries[2:]] == [each.segment_id for each in expected.entries[2:]]
    manifest, _ = Windows(wide, store, fresh=done.fresh).dataset(done.history)
    whole = ids(manifest, store)
    assert len(set(whole)) == len(whole)
    assert done.rejected["duplicates"] == 2 * (2 * DAY // 10) + 2 * (DAY - DAY // 10)
