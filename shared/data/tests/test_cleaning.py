import itertools
import json
from collections import deque
from typing import Any

import pyarrow as pa
import pytest
from headrace_data.cleaning import clean, keys_of
from headrace_data.errors import BatchInvalid
from headrace_data.records import RecordChecker
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Pipeline, load_pipeline, parse_canonical
from hypothesis import given, settings
from hypothesis import strategies as st


def rows(pipeline: Pipeline, *records: dict[str, Any]) -> pa.RecordBatch:
    good = {"id": "a", "team": 1, "image": [0] * 6, "amount": 1, "age": 3, "kind": "x"}
    values = [json.dumps(good | record).encode() for record in records]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert checked.rejected == []
    return checked.batch


def changed(pipeline: Pipeline, **clean_rules: object) -> Pipeline:
    document = json.loads(pipeline.canonical_json())
    document["prepare"]["clean"] |= clean_rules
    return parse_canonical(json.dumps(document).encode())


def test_each_rule_drops_its_rows_and_says_why(mixed: Pipeline) -> None:
    batch = rows(
        mixed,
        {"id": "a"},
        {"id": "b", "age": None},
        {"id": "c", "image": [0, 0, 0, 0, 4.5, 0]},
        {"id": "a", "amount": 2},
        {"id": "d", "amount": 100.5, "kind": None},
        {"id": "e", "image": [4, -4, 0, 0, 0, 0], "amount": 100},
    )

    cleaned = clean(batch, mixed, SeenKeys(10))

    assert cleaned.batch.column("id").to_pylist() == ["a", "e"]
    assert cleaned.counts == {"duplicates": 1, "missing": 2, "outOfRange": 1}
    assert [(row.position, row.rule, row.field, row.reason) for row in cleaned.dropped] == [
        (1, "missing", "age", "age: expected a value, got none"),
        (2, "outOfRange", "image", "image: element 4: expected -4 to 4, got 4.5"),
        (3, "duplicates", "id", "id: expected a new key, got one that is among the last 10"),
        (4, "missing", "kind", "kind: expected a value, got none"),
    ]


def test_a_rule_that_keeps_drops_nothing() -> None:
    pipeline = load_pipeline(
        """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: lax}
stream:
  topic: lax
  schema:
    - {name: id, type: int64, role: id}
    - {name: note, type: string, role: group, nullable: true}
    - {name: x, type: int8, role: feature, range: [-1000, 5]}
    - {name: y, type: int64, role: label}
prepare:
  clean: {missing: keep, duplicates: keep, outOfRange: keep}
  split: {group: id}
train: {network: {kind: mlp}}
""".replace("[-1000, 5]", "[-100, 5]")
    )
    values = [b'{"id": 1, "x": 9, "y": 0}'] * 2
    batch = RecordChecker(pipeline.stream).check(values, [0, 0], [0, 1]).batch

    assert clean(batch, pipeline, SeenKeys(10)).batch == batch
    dropped = clean(batch, changed(pipeline, outOfRange="drop"), SeenKeys(10)).dropped
    assert [row.reason for row in dropped] == ["x: expected -100 to 5, got 9"] * 2


def test_a_dropped_row_leaves_no_key(mixed: Pipeline) -> None:
    seen = SeenKeys(10)
    batch = rows(mixed, {"id": "a", "amount": 101}, {"id": "a"}, {"id": "a"})

    cleaned = clean(batch, mixed, seen)

    assert cleaned.batch.column("_offset").to_pylist() == [1]
    assert len(seen) == 1


def test_a_null_is_not_out_of_range(mixed: Pipeline) -> None:
    batch = rows(mixed, {"id": "a", "image": None}, {"id": "b"})

    assert clean(batch, mixed, SeenKeys(9)).counts == {"missing": 1}
    assert clean(batch.slice(1), mixed, SeenKeys(9)).counts == {}


def test_batches_of_another_stream_are_refused(mixed: Pipeline, digits: Pipeline) -> None:
    with pytest.raises(BatchInvalid):
        clean(rows(mixed, {}), digits, SeenKeys(9))


IDS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([1, 101])), max_size=40)


@settings(deadline=None)
@given(IDS, st.integers(1, 6), st.lists(st.integers(0, 40), max_size=4))
def test_cleaning_does_not_depend_on_batches(
    mixed: Pipeline, ids: list[tuple[str, int]], window: int, cuts: list[int]
) -> None:
    batch = rows(mixed, *({"id": key, "amount": amount} for key, amount in ids))
    whole = clean(batch, mixed, SeenKeys(window))

    seen = SeenKeys(window)
    kept = []
    ends = sorted({0, len(ids), *(cut for cut in cuts if cut <= len(ids))})
    for start, end in itertools.pairwise(ends):
        kept += clean(batch.slice(start, end - start), mixed, seen).batch.column("_offset").to_pylist()
        # A restart: the keys of the clean rows bring the state back.
        restored = SeenKeys(window)
        restored.remember(keys_of(batch.take(pa.array(kept, pa.int64())), mixed))
        seen = restored

    assert whole.batch.column("_offset").to_pylist() == kept
    assert kept == simple_cleaning(ids, window)


def simple_cleaning(ids: list[tuple[str, int]], window: int) -> list[int]:
    last: deque[str] = deque(maxlen=window)
    kept = []
    for position, (key, amount) in enumerate(ids):
        if amount <= 100 and key not in last:
            last.append(key)
            kept.append(position)
    return kept


def test_streams_without_identity_have_no_duplicates(mixed: Pipeline) -> None:
    document = json.loads(mixed.canonical_json())
    del document["stream"]["key"]
    document["stream"]["schema"][0] |= {"role": "label"}
    document["stream"]["schema"][5] |= {"role": "feature", "type": "int8"}
    pipeline = parse_canonical(json.dumps(document).encode())
    batch = rows(pipeline, {"kind": 1}, {"kind": 1})

    assert clean(batch, pipeline, SeenKeys(5)).batch == batch
    assert len(keys_of(batch, pipeline)) == 0
