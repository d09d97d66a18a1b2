from collections import deque
from collections.abc import Sequence
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
from headrace_data import stream_keys
from headrace_data.batches import INDEX, OFFSET, PARTITION, TIME, TIME_TYPE, arrow_schema
from headrace_data.cleaning import clean, duplicate_in_stream, keys_of
from headrace_data.errors import SpecInvalid
from headrace_data.history import History, keep
from headrace_data.manifest import Provenance
from headrace_data.seen_keys import SeenKeys
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline, parse_canonical
from headrace_data.stream_keys import Duplicates, Known, StreamKeys, newest_keys
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import MemoryStore

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: twice}}
stream:
  topic: twice
  schema:
    - {{name: key, type: int64, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: string, role: label}}
prepare:
  clean: {{duplicateWindow: {window}, duplicateScope: {scope}}}
train:
  network: {{kind: mlp, hidden: [4]}}
"""

Row = tuple[int, int, int, int]
"""Partition, offset, index and key."""


def pipeline(window: int | str = 100, scope: str = "stream") -> Pipeline:
    return load_pipeline(DOCUMENT.format(window=window, scope=scope))


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    partitions, offsets, indexes, keys = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.RecordBatch.from_pydict(
        {
            "key": pa.array(keys, pa.int64()),
            PARTITION: pa.array(partitions, pa.int32()),
            OFFSET: pa.array(offsets, pa.int64()),
            INDEX: pa.array(indexes, pa.int32()),
        }
    )


def with_features(rows: Sequence[Row], of: Pipeline) -> pa.RecordBatch:
    """Return rows as a segment is written of them."""
    keys = batch(rows)
    columns = {name: keys.column(name) for name in keys.schema.names}
    columns |= {"x": pa.array([0.5] * len(rows), pa.float32()), "y": pa.array(["a"] * len(rows), pa.string())}
    columns[TIME] = pa.nulls(len(rows), TIME_TYPE)
    schema = arrow_schema(of.stream.fields)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


NOWHERE = Provenance(cluster_id="c", topic="twice", topic_id="", sources=(), clean_ranges=(), rejected={})


def plainly(rows: Sequence[Row], before: Sequence[int], window: int) -> list[Row]:
    """Return the duplicates as the sentence in the docs has it."""
    last = deque(before, maxlen=window)
    found = []
    for row in sorted(rows):
        if row[3] in last:
            found.append(row)
        else:
            last.append(row[3])
    return found


@given(
    st.lists(st.lists(st.integers(0, 12), max_size=15), max_size=4),
    st.lists(st.integers(0, 12), max_size=8, unique=True),
    st.integers(1, 30),
    st.data(),
)
def test_duplicates_do_not_depend_on_batches_or_the_order_of_partitions(
    keys: list[list[int]], before: list[int], window: int, data: st.DataObject
) -> None:
    # Two rows share an offset, as pushed ones do.
    parts = [[(partition - 1, at // 2, at % 2, key) for at, key in enumerate(of)] for partition, of in enumerate(keys)]
    rows = [row for part in parts for row in part]
    waiting, arrived = [list(part) for part in parts if part], list[Row]()
    while waiting:
        part = data.draw(st.sampled_from(waiting))
        arrived.append(part.pop(0))
        waiting = [part for part in waiting if part]
    size = data.draw(st.integers(1, 20))
    batches = [batch(arrived[start : start + size]) for start in range(0, len(arrived), size)]

    of = pipeline(window)
    stream = StreamKeys(of)
    for each in batches:
        stream.add(each)
    remembered = [Known(keys_of(batch([(0, 0, 0, key)]), of), np.empty(0, np.int64)) for key in before]
    duplicates = stream.duplicates(remembered)

    found = [row for each in batches for row in each.take(pa.array(duplicates.among(each))).to_pylist()]
    expected = plainly(rows, before, window)
    assert sorted((row[PARTITION], row[OFFSET], row[INDEX], row["key"]) for row in found) == expected
    assert duplicates.rows == len(expected)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 25)), max_size=30), max_size=4),
    st.integers(1, 40),
)
def test_keys_of_earlier_segments_are_seen_as_far_back_as_the_window_reaches(
    cuts: list[list[tuple[int, int]]], window: int
) -> None:
    of, store, last = pipeline(window), MemoryStore(), deque[int](maxlen=window)
    history, offset = History(pipeline=of.name), 0
    for cut in cuts:
        stream, rows = StreamKeys(of), list[Row]()
        for partition, key in cut:
            rows.append((partition, offset, 0, key))
            offset += 1
        whole = batch(rows)
        stream.add(whole)
        duplicates = set(stream.duplicates(newest_keys(history, of, store)).among(whole).tolist())
        kept = [row for number, row in enumerate(rows) if number not in duplicates]
        expected = []
        for row in sorted(rows):
            if row[3] not in last:
                last.append(row[3])
                expected.append(row)
        assert sorted(kept) == expected
        # Parts of two rows, so that a window ends within a segment and within a part.
        writer = SegmentWriter(of, store, part_rows=2)
        writer.add(with_features(kept, of))
        segment = writer.finish(NOWHERE)
        history = history.and_cut(keep(segment, of, store))


Timed = tuple[int | None, int, int, int]
"""Event time in microseconds, partition, offset and key."""


def timed_batch(rows: Sequence[Timed], of: Pipeline) -> pa.RecordBatch:
    whole = with_features([(partition, offset, 0, key) for _, partition, offset, key in rows], of)
    return whole.set_column(
        len(whole.schema) - 1, TIME, pa.array([time for time, *_ in rows], pa.int64()).cast(TIME_TYPE)
    )


def within_time(cuts: Sequence[Sequence[Timed]], span: int) -> list[list[Timed]]:
    """Return what each cut takes, as the sentence in the docs has it."""
    clock, accepted, taken = -(2**63), list[tuple[int, int]](), list[list[Timed]]()
    for cut in cuts:
        taken.append([])
        for row in sorted(cut, key=lambda row: (-(2**63) if row[0] is None else row[0], *row[1:])):
            now = max(clock, -(2**63) if row[0] is None else row[0])
            if not any(key == row[3] and now - then <= span for key, then in accepted):
                clock = now
                accepted.append((row[3], now))
                taken[-1].append(row)
    return taken


TIMES = st.none() | st.integers(0, 40).map(lambda second: second * 1_000_000)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.tuples(TIMES, st.integers(0, 2), st.integers(0, 8)), max_size=25), max_size=4),
    st.integers(1, 45),
    st.integers(1, 12),
)
def test_a_key_counts_as_seen_for_a_time_whatever_is_read_first(
    cuts: list[list[tuple[int | None, int, int]]], seconds: int, at_once: int
) -> None:
    of, store = pipeline(f"{seconds}s"), MemoryStore()
    history, numbers = History(pipeline=of.name), count()
    rows = [[(time, partition, next(numbers), key) for time, partition, key in cut] for cut in cuts]
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_keys, "AT_ONCE", at_once)
        for cut in rows:
            stream, whole = StreamKeys(of), timed_batch(cut, of)
            stream.add(whole)
            duplicates = set(stream.duplicates(newest_keys(history, of, store)).among(whole).tolist())
            taken.append([row for number, row in enumerate(cut) if number not in duplicates])
            writer = SegmentWriter(of, store, part_rows=2)
            writer.add(timed_batch(taken[-1], of))
            history = history.and_cut(keep(writer.finish(NOWHERE), of, store))
    assert [sorted(cut, key=str) for cut in taken] == [
        sorted(cut, key=str) for cut in within_time(rows, seconds * 1_000_000)
    ]


def test_segments_that_a_time_does_not_reach_are_not_read() -> None:
    of, store, beats = pipeline("3s"), MemoryStore(), list[None]()
    history = History(pipeline=of.name)
    for second in range(10):
        writer = SegmentWriter(of, store)
        writer.add(timed_batch([(1_000_000 * second, 0, second, second)], of))
        history = history.and_cut(keep(writer.finish(NOWHERE), of, store))
    known = list(newest_keys(history, of, store, lambda: beats.append(None)))
    assert [each.times.tolist() for each in known] == [[1_000_000 * second] for second in (6, 7, 8, 9)]
    assert len(beats) == 4


def test_a_window_of_time_is_of_the_stream_and_leaves_cleaning_alone() -> None:
    of = pipeline("7d")
    assert (of.prepare.clean.duplicate_window, of.prepare.clean.remembered) == (604_800.0, 0)
    assert b'"duplicateWindow":"604800s"' in of.canonical_json()
    assert parse_canonical(of.canonical_json()).digest == of.digest
    assert clean(timed_batch([(0, 0, 0, 1), (0, 0, 1, 1)], of), of, SeenKeys(5)).counts == {}
    assert "one that is of the last 604800s of the stream" in duplicate_in_stream(0, of).reason
    with pytest.raises(SpecInvalid, match=r"duplicateWindow: a time expects duplicateScope: stream beside it"):
        pipeline("7d", "partition")
    for value in ("0", "10000001", "1.5", "true", "soon"):
        with pytest.raises(SpecInvalid, match="duplicateWindow"):
            pipeline(value)


def test_no_more_parts_of_earlier_segments_are_read_than_the_window_wants() -> None:
    of, store, beats = pipeline(window=5), MemoryStore(), list[None]()
    history = History(pipeline=of.name)
    for cut in range(4):
        writer = SegmentWriter(of, store, part_rows=2)
        writer.add(with_features([(0, 4 * cut + row, 0, 4 * cut + row) for row in range(4)], of))
        history = history.and_cut(keep(writer.finish(NOWHERE), of, store))
    found = np.concatenate([known.digests for known in newest_keys(history, of, store, lambda: beats.append(None))])
    assert found.tolist() == keys_of(batch([(0, 0, 0, key) for key in range(10, 16)]), of).tolist()
    assert len(beats) == 3


def test_what_repeats_in_large_cuts_is_found_across_the_pieces_they_are_looked_at_in() -> None:
    stream = StreamKeys(pipeline(window=300_000))
    keys = np.arange(100_000)
    for partition in (1, 0):
        rows = batch([(partition, 0, 0, 0)]).take(pa.array(np.zeros(len(keys), np.int64)))
        rows = rows.set_column(0, "key", pa.array(keys + 50_000 * partition))
        stream.add(rows.set_column(2, OFFSET, pa.array(keys)))
    duplicates = stream.duplicates()
    assert duplicates.rows == 50_000
    assert duplicates.places[1] == {(offset, 0) for offset in range(50_000)}


def test_nothing_is_among_no_duplicates() -> None:
    assert Duplicates({}).among(batch([(0, 0, 0, 1)])).tolist() == []
    assert Duplicates({0: frozenset({(0, 1)})}).among(batch([(0, 0, 0, 1), (1, 0, 1, 1)])).tolist() == []


def test_the_scope_is_part_of_a_spec_only_where_it_is_the_stream() -> None:
    absent = load_pipeline(DOCUMENT.format(window=100, scope="partition").replace(", duplicateScope: partition", ""))
    assert pipeline(scope="partition").digest == absent.digest
    assert not absent.drops_over_stream
    assert pipeline().prepare_digest != absent.prepare_digest
    assert pipeline().drops_over_stream
    assert b"duplicateScope" not in absent.canonical_json()


def test_a_dropped_row_says_which_keys_it_was_looked_for_among() -> None:
    rejection = duplicate_in_stream(3, pipeline(window=100))
    assert rejection.reason == "key: expected a new key, got one that is among the last 100 of the stream"
    assert (rejection.position, rejection.rule, rejection.field) == (3, "duplicates", "key")


def test_without_a_key_there_is_nothing_to_say() -> None:
    document = DOCUMENT.format(window=100, scope="stream").replace("role: id", "role: group")
    keyless = load_pipeline(document)
    assert not keyless.drops_over_stream
    with pytest.raises(ValueError, match="expected a key"):
        duplicate_in_stream(0, keyless)
