import itertools
import json
from collections import deque
from typing import Any

import pyarrow as pa
import pytest
from headrace_data.cleaning import clean, keys_of
from headrace_data.errors import BatchInvalid, SpecInvalid
from headrace_data.records import RecordChecker
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Pipeline, load_pipeline, parse_canonical
from headrace_data.spec.cleaning import Gaps, drops_fewer
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


GAPPY = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: gappy}
stream:
  topic: gappy
  schema:
    - {name: id, type: int64, role: id}
    - {name: a, type: float64, role: feature, nullable: true}
    - {name: b, type: string, role: feature, nullable: true}
    - {name: c, type: float32, role: feature, shape: [2], nullable: true}
    - {name: y, type: int64, role: label}
prepare:
  clean: {missing: MISSING}
  transform: {a: {impute: mean}, b: {encode: onehot, impute: mostFrequent}, c: {impute: mean}}
train: {network: {kind: mlp}}
"""
FEATURES: dict[str, list[Any]] = {"a": [1.0, None], "b": ["x", None, " "], "c": [[1.0, 2.0], None]}
EVERY = [
    {name: value for name, value in zip("abc", values, strict=True) if value is not None}
    for values in itertools.product(*FEATURES.values())
]


def names_lacking(record: dict[str, Any]) -> set[str]:
    return {name for name in "abc" if record.get(name) in (None, " ")}


@pytest.mark.parametrize("any_of", [[], ["a"], ["b", "c"]])
@pytest.mark.parametrize("all_of", [[], ["b"], ["a", "b"], ["a", "b", "c"]])
def test_rows_are_dropped_that_lack_one_of_some_fields_or_all_of_some(any_of: list[str], all_of: list[str]) -> None:
    """Beside the sets of the fields that each row lacks; over all rows that there can be."""
    wanted = {key: names for key, names in (("any", any_of), ("all", all_of)) if names} or "keep"
    pipeline = load_pipeline(GAPPY.replace("MISSING", json.dumps(wanted)))
    batch = rows_of_every(pipeline)

    cleaned = clean(batch, pipeline, SeenKeys(99))

    lacking = [names_lacking(each) for each in EVERY]
    kept = [not (set(any_of) & names or (all_of and set(all_of) <= names)) for names in lacking]
    assert cleaned.batch.column("id").to_pylist() == list(itertools.compress(range(len(EVERY)), kept))
    assert cleaned.counts == ({"missing": kept.count(False)} if False in kept else {})
    assert all(row.field in {*any_of, *all_of} and "got none" in row.reason for row in cleaned.dropped)


def rows_of_every(pipeline: Pipeline) -> pa.RecordBatch:
    values = [json.dumps({"id": place, "y": place % 2} | each).encode() for place, each in enumerate(EVERY)]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert checked.rejected == []
    return checked.batch


POLICIES: list[Any] = ["drop", "keep"] + [
    Gaps(any=one or None, all=every or None)
    for one in [(), ("a",), ("a", "b"), ("a", "b", "c")]
    for every in [(), ("a",), ("a", "b"), ("b", "c")]
    if one or every
]


def test_a_policy_is_looser_when_it_keeps_a_row_that_another_drops() -> None:
    def dropped(policy: Any) -> set[int]:
        given = policy if isinstance(policy, str) else policy.plain()
        pipeline = load_pipeline(GAPPY.replace("MISSING", json.dumps(given)))
        return {row.position for row in clean(rows_of_every(pipeline), pipeline, SeenKeys(99)).dropped}

    found = [dropped(policy) for policy in POLICIES]
    for (before, was), (after, now) in itertools.product(zip(POLICIES, found, strict=True), repeat=2):
        # That no row of these is kept says nothing of fields that are not named: `drop` may be stricter than it looks.
        assert not (was - now) or drops_fewer(after, before), (before, after)
        assert was - now or not drops_fewer(after, before) or before == "drop", (before, after)


def test_gaps_of_a_label_are_dropped_and_those_of_features_dropped_or_filled() -> None:
    text = GAPPY.replace("role: label", "role: label, nullable: true").replace("impute: mean}, b", "scale: none}, b")
    with pytest.raises(SpecInvalid) as told:
        load_pipeline(text.replace("MISSING", "{any: [b]}"))
    assert [str(problem).split("nullable: ")[1] for problem in told.value.problems] == [
        "expected prepare.transform.a.impute while prepare.clean.missing does not name it under any, got none: nothing "
        "fills the gaps",
        "expected false for a label while prepare.clean.missing does not name it under any, got true",
    ]
    assert load_pipeline(text.replace("MISSING", "{any: [y, a]}"))


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("{}", "prepare.clean.missing: expected fields under any, all or both, got none"),
        ("{any: []}", "prepare.clean.missing.any"),
        ("{any: [id]}", "prepare.clean.missing.any[0]: expected a field with nullable: true, got 'id'"),
        ("{all: [a, a]}", "prepare.clean.missing.all[1]: expected each field once, got 'a' again"),
        ("{all: [aa]}", "prepare.clean.missing.all[0]: unknown field 'aa'"),
        ("{some: [a]}", "prepare.clean.missing.some"),
        ("dorp", "prepare.clean.missing: expected drop, keep or {any: [FIELDS], all: [FIELDS]}"),
    ],
)
def test_what_is_no_policy_is_told(missing: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as problems:
        load_pipeline(GAPPY.replace("MISSING", missing))
    assert told in str(problems.value)


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
