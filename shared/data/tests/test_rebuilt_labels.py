"""Segments whose labels came later than their rows are made again of the rows that they have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from headrace_data.dataset import DatasetReader
from headrace_data.files import Rows
from headrace_data.history import History, keep
from headrace_data.manifest import OffsetRange, Provenance
from headrace_data.rebuild import Log, Rebuild
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.split import SPLITS
from headrace_data.windows import Windows

from .conftest import MemoryStore
from .many_days import SPEC

ROWS = 60


def pipeline(high: int) -> Pipeline:
    document = SPEC.format(window="all", high=high, missing="keep", salt="a", scale="standard")
    return load_pipeline(document.replace("  topic: days\n", "  topic: days\n  labels: {topic: outcomes}\n"))


def rows(start: int, end: int) -> Rows:
    """Records without a label, but that every seventh brings its own."""
    own = [{"y": number % 3} if number % 7 == 0 else {} for number in range(start, end)]
    values = [
        json.dumps({"id": number, "x": float(number), "kind": "a"} | own[number - start])
        for number in range(start, end)
    ]
    times = np.array([1_767_225_600_000_000 + number for number in range(start, end)], "datetime64[us]")
    return Rows(range(start, end), [value.encode() for value in values], times)


def read(_partition: int, start: int, end: int) -> Iterator[Rows]:
    for piece in range(start, end, 17):
        yield rows(piece, min(piece + 17, end))


def cut(of: Pipeline, store: MemoryStore) -> History:
    """Two cuts: those rows of one hour that had their labels by then, and the others with those of a second."""
    history = History(pipeline=of.name)
    origin: dict[str, Any] = {"cluster_id": "c", "topic": "days", "topic_id": "t", "clean_ranges": ()}
    for numbers, end in (
        ([n for n in range(ROWS) if n % 2], ROWS),
        ([n for n in range(2 * ROWS) if n % 2 == 0], 2 * ROWS),
    ):
        records = [{"id": number, "x": float(number), "kind": "a", "y": number % 3} for number in numbers]
        values, times = [json.dumps(each).encode() for each in records], rows(0, 2 * ROWS).times
        assert times is not None
        checked = RecordChecker(of.stream).check(values, [0] * len(numbers), numbers, None, times[numbers])
        writer = SegmentWriter(of, store)
        writer.add(checked.batch)
        source = OffsetRange(partition=0, start=0, end=end)
        history = history.and_cut(
            keep(writer.finish(Provenance(**origin, rejected={"unlabelled": 2}, sources=(source,))), of, store)
        )
    return history


def test_a_segment_is_made_again_of_its_own_rows_with_the_labels_that_they_got() -> None:
    store, log = MemoryStore(), Log("t", {0: (0, 2 * ROWS)}, read)
    history = cut(pipeline(high=1_000), store)

    same = Rebuild(pipeline(high=1_000), store, history, 2e9, lambda: None)
    same.take(log, None, None)
    assert (same.history, same.known, same.rows) == (history, history.rows, 0)

    narrow = pipeline(high=80)
    done = Rebuild(narrow, store, history, 2e9, lambda: None)
    done.take(log, None, None)
    assert [each.rows for each in done.history.entries] == [30, 41]
    assert done.rejected == {"outOfRange": 19}
    manifest, _ = Windows(narrow, store, fresh=done.fresh).dataset(done.history)
    assert manifest.provenance.rejected == {"unlabelled": 4, "outOfRange": 19}
    reader = DatasetReader(manifest, store)
    found = [
        row for split in SPLITS for batch in reader.batches(split) for row in batch.select(["id", "y"]).to_pylist()
    ]
    expected = [
        number for number in range(2 * ROWS) if (number % 2 and number < ROWS) or (number % 2 == 0 and number <= 80)
    ]
    assert sorted((row["id"], row["y"]) for row in found) == [(number, number % 3) for number in expected]


def test_a_row_that_cannot_be_read_any_more_is_counted_by_the_segment_that_has_it() -> None:
    def spoilt(partition: int, start: int, end: int) -> Iterator[Rows]:
        for piece in read(partition, start, end):
            told = zip(piece.numbers, piece.values, strict=True)
            yield replace(piece, values=[b"?" if number in (1, 2) else value for number, value in told])

    store = MemoryStore()
    history = cut(pipeline(high=1_000), store)
    done = Rebuild(pipeline(high=1_000), store, history, 2e9, lambda: None)
    done.take(Log("t", {0: (0, 2 * ROWS)}, spoilt), None, None)
    assert [each.rows for each in done.history.entries] == [each.rows - 1 for each in history.entries]
    assert done.rejected == {"json": 2}
