from collections import deque
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.batches import INDEX, OFFSET, PARTITION, TIME, TIME_TYPE, arrow_schema
from headrace_data.cleaning import duplicate_in_stream, keys_of
from headrace_data.history import History, keep
from headrace_data.manifest import Provenance
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.stream_keys import Duplicates, StreamKeys, newest_keys
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


def pipeline(window: int = 100, scope: str = "stream") -> Pipeline:
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
    remembered = [keys_of(batch([(0, 0, 0, key)]), of) for key in before]
    duplicates = stream.duplicates(remembered)

    found = [row for each in batches for row in each.take(pa.array(duplicates.among(each))).to_pylist()]
    expected = plainly(rows, before, window)
    assert sorted((row[PARTITION], row[OFFSET], row[INDEX], row["key"]) for row in found) == expected
    assert duplicates.rows == len(expected)


@settings(deadline=None)
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


def test_no_more_parts_of_earlier_segments_are_read_than_the_window_wants() -> None:
    of, store, beats = pipeline(window=5), MemoryStore(), list[None]()
    history = History(pipeline=of.name)
    for cut in range(4):
        writer = SegmentWriter(of, store, part_rows=2)
        writer.add(with_features([(0, 4 * cut + row, 0, 4 * cut + row) for row in range(4)], of))
        history = history.and_cut(keep(writer.finish(NOWHERE), of, store))
    found = np.concatenate(list(newest_keys(history, of, store, lambda: beats.append(None))))
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
