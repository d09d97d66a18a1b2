import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from headrace_data.lateness import LATE_AFTER_S, Lateness
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline
from hypothesis import given
from hypothesis import strategies as st

ROW = json.dumps({"id": "a", "team": 1, "image": None, "amount": 1.5, "age": None, "kind": "x"}).encode()
Row = tuple[int, int, int | None]
"""Partition, offset and time in seconds."""


def batch(pipeline: Pipeline, rows: Sequence[Row]) -> pa.RecordBatch:
    partitions, offsets = [row[0] for row in rows], [row[1] for row in rows]
    times = np.array(["NaT" if row[2] is None else row[2] * 1_000_000 for row in rows], "M8[us]")
    return RecordChecker(pipeline.stream).check([ROW] * len(rows), partitions, offsets, None, times).batch


def test_a_row_is_late_when_it_is_over_a_minute_older_than_one_before_it_in_its_partition(mixed: Pipeline) -> None:
    lateness = Lateness()
    rows: list[Row] = [
        (0, 0, 1_000),
        (1, 0, 5_000),
        (0, 1, 940),
        (0, 2, 939),
        (0, 3, None),
        (1, 1, 5_500),
        (1, 2, 5_000),
    ]
    assert lateness.add(batch(mixed, rows)) == 2
    assert lateness.watermarks_us == {0: 1_000_000_000, 1: 5_500_000_000}
    assert lateness.add(batch(mixed, [(0, 4, 900), (1, 3, 5_501)])) == 1
    assert (lateness.rows, lateness.watermarks_us[0]) == (3, 1_000_000_000)
    assert lateness.add(batch(mixed, [(2, 0, None)])) == lateness.add(batch(mixed, [])) == 0


def test_where_offsets_go_back_a_partition_begins_anew(mixed: Pipeline) -> None:
    lateness = Lateness()
    rows: list[Row] = [(0, 5, 100), (0, 6, 1_000), (0, 7, 5_000)]
    assert lateness.add(batch(mixed, rows)) == lateness.add(batch(mixed, rows)) == 0
    # The batches of one push share an offset.
    assert lateness.add(batch(mixed, [(0, 7, 100)])) == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(-500, 500)), max_size=30), st.integers(1, 7))
def test_it_is_the_same_count_however_rows_are_batched(
    mixed: Pipeline, told: list[tuple[int, int | None]], size: int
) -> None:
    rows: list[Row] = [(partition, offset, time) for offset, (partition, time) in enumerate(told)]
    expected = sum(
        any(p == partition and t is not None and t - time > LATE_AFTER_S for p, _, t in rows[:offset])
        for partition, offset, time in rows
        if time is not None
    )
    lateness = Lateness()
    for start in range(0, len(rows), size):
        lateness.add(batch(mixed, rows[start : start + size]))
    assert lateness.rows == expected
