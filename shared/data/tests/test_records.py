import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.batches import arrow_schema, elements, from_ipc, require_columns, to_ipc
from headrace_data.errors import BatchInvalid
from headrace_data.records import Checked, RecordChecker
from headrace_data.spec import Pipeline
from hypothesis import given, settings
from hypothesis import strategies as st

GOOD: dict[str, Any] = {"id": "a", "team": 1, "image": [[1, 2, 3], [4, 5, 6.5]], "amount": 1.5, "age": 30, "kind": "x"}
MOMENT = datetime(2026, 11, 29, 1, 2, 3, 456_789, UTC)
TIME = np.datetime64(MOMENT.replace(tzinfo=None), "us")


def check(pipeline: Pipeline, *values: bytes | None) -> Checked:
    return RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))


def record(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def test_good_records_become_columns(mixed: Pipeline) -> None:
    checker = RecordChecker(mixed.stream)

    values = [record(), record(id="b", image=None, age=None, kind=None)]
    checked = checker.check(values, [3, 4], [10, 11], [0, 7], np.array([TIME, "NaT"], "M8[us]"))

    assert checked.rejected == []
    assert checked.batch.schema == arrow_schema(mixed.stream.fields)
    assert checked.batch.to_pylist() == [
        {**GOOD, "image": [1, 2, 3, 4, 5, 6.5]} | {"_partition": 3, "_offset": 10, "_index": 0, "_time": MOMENT},
        {**GOOD, "id": "b", "image": None, "age": None, "kind": None}
        | {"_partition": 4, "_offset": 11, "_index": 7, "_time": None},
    ]


@pytest.mark.parametrize(
    "value",
    [
        record(image=[1, 2, 3, 4, 5, 6]),
        record(surplus={"deep": [{}]}, amount=2**63 + 5),
        json.dumps({key: GOOD[key] for key in GOOD if key not in ("image", "age", "kind")}).encode(),
        json.dumps(GOOD, indent=2).encode(),
        b'{"id": "late"' + record()[len('{"id": "a"') :],
        record(id="é\U0001f600\u0000"),
        record(amount=-0.0),
    ],
)
def test_other_ways_to_write_a_good_record(mixed: Pipeline, value: bytes) -> None:
    assert check(mixed, record(), value).batch.num_rows == 2


@pytest.mark.parametrize(
    ("value", "rule", "field", "reason"),
    [
        (None, "json", "", "expected a JSON object, got no value"),
        (b"", "json", "", "expected a JSON object, got an empty value"),
        (b"  ", "json", "", "expected a JSON object, got bytes that are no JSON"),
        (b"{", "json", "", "expected a JSON object, got bytes that are no JSON"),
        (b"[1]", "json", "", "expected a JSON object, got a list of 1"),
        (b"null", "json", "", "expected a JSON object, got null"),
        (b'"' + b"x" * 99 + b'"', "json", "", 'expected a JSON object, got "xxx'),
        (b'{"id": "\xff"}', "json", "", "no JSON: str is not valid UTF-8"),
        (b'{"id": "\\ud800"}', "json", "", "no JSON: "),
        (record(amount=math.nan), "json", "", "no JSON: "),
        (record(amount=-math.inf), "json", "", "no JSON: "),
        (b'{"amount": 1e999}', "json", "", "no JSON: number is infinity"),
        (b"[" * 100_000, "json", "", "no JSON: depth limit exceeded"),
        (b'{"surplus":' + b"[" * 5000 + b"]" * 5000 + b"}", "json", "", "no JSON: depth limit exceeded"),
        (record() + record(), "json", "", "no JSON: "),
        (b"{}", "missing", "id", "id: expected a value, got none"),
        (record(amount=None), "missing", "amount", "amount: expected a value, got none"),
        (record(id=7), "type", "id", "id: expected a string, got 7"),
        (record(team=1.0), "type", "team", "team: expected a value of type int64, got 1.0"),
        (record(team=True), "type", "team", "team: expected a value of type int64, got true"),
        (record(team="1"), "type", "team", 'team: expected a value of type int64, got "1"'),
        (record(team=2**63), "overflow", "team", "team: expected a value that int64 can hold, got 9223372036854775808"),
        (record(team=2**70), "type", "team", "team: expected a value of type int64, got 1.1805916207174113e+21"),
        (record(age=256), "overflow", "age", "age: expected a value that uint8 can hold, got 256"),
        (record(age=-1), "overflow", "age", "age: expected a value that uint8 can hold, got -1"),
        (record(amount=False), "type", "amount", "amount: expected a value of type float64, got false"),
        (record(amount={}), "type", "amount", "amount: expected a value of type float64, got an object"),
        (record(amount=[1.5]), "type", "amount", "amount: expected a value of type float64, got a list of 1"),
        (record(image=1), "type", "image", "image: expected shape [2, 3], or 6 numbers in one list, got 1"),
        (record(image=[]), "shape", "image", "image: expected shape [2, 3], or 6 numbers in one list, got a list of 0"),
        (record(image=[1, 2]), "shape", "image", "6 numbers in one list, got 1 in dimension 1"),
        (record(image=[[1, 2, 3], [4, 5]]), "shape", "image", "one list, got a list of 2 in dimension 1"),
        (record(image=[[1, 2], [3, 4], [5, 6]]), "shape", "image", "one list, got a list of 3 in dimension 0"),
        (record(image=[[1, 2, 3], 4]), "shape", "image", "one list, got 4 in dimension 1"),
        (record(image=[1, 2, 3, 4, 5, [6]]), "shape", "image", "one list, got a list of 6 in dimension 0"),
        (record(image=[1, 2, 3, 4, 5, None]), "type", "image", "element 5: expected a value of type float32, got null"),
        (
            record(image=[[1, 2, 3], [4, True, 6]]),
            "type",
            "image",
            "element 4: expected a value of type float32, got true",
        ),
        (
            record(image=[[1, 2, 3], [4, [5], 6]]),
            "type",
            "image",
            "element 4: expected a value of type float32, got a list",
        ),
        (record(image=[1, 2, 3, 4, 5, 1e39]), "overflow", "image", "element 5: expected a value that float32 can hold"),
        (record(kind=5), "type", "kind", "kind: expected a string, got 5"),
    ],
)
def test_a_bad_record_is_named_and_never_stops_the_good_ones(
    mixed: Pipeline, value: bytes | None, rule: str, field: str, reason: str
) -> None:
    checked = check(mixed, record(id="before"), value, record(id="after"))

    assert checked.batch.column("id").to_pylist() == ["before", "after"]
    assert checked.batch.column("_offset").to_pylist() == [0, 2]
    [rejection] = checked.rejected
    assert (rejection.position, rejection.rule, rejection.field) == (1, rule, field)
    assert reason in rejection.reason
    assert len(rejection.reason) < 200


def test_the_first_fault_in_schema_order_is_told(mixed: Pipeline) -> None:
    [rejection] = check(mixed, record(amount="x", team="y", kind=1)).rejected

    assert rejection.field == "team"


def test_zero_has_one_sign(mixed: Pipeline) -> None:
    batch = check(mixed, record(amount=-0.0, image=[-0.0] * 6), record(amount=0, image=[0] * 6)).batch

    assert not np.signbit(batch.column("amount").to_numpy()).any()
    assert not np.signbit(elements(batch, mixed.stream.features[0])).any()


def test_no_records_make_an_empty_batch(mixed: Pipeline) -> None:
    for batch in (check(mixed).batch, check(mixed, b"{").batch):
        assert batch.num_rows == 0
        assert from_ipc(to_ipc(batch)).schema == arrow_schema(mixed.stream.fields)


def test_places_must_match_values(mixed: Pipeline) -> None:
    with pytest.raises(ValueError, match=r"got \[1, 2, 1, 1, 1\]"):
        RecordChecker(mixed.stream).check([b""], [1, 2], [3])


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 255, 256, 3.4028235e38, 3.4028236e38, 3.5e38, 2**63 - 1, 2**63, 2**64, "1", ""])
)
NUMBERS = st.integers(-300, 300) | st.floats(-1e3, 1e3)
IMAGES = st.one_of(
    st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=2, max_size=2),
    st.lists(NUMBERS, min_size=6, max_size=6),
    st.lists(st.lists(SCALARS, min_size=2, max_size=4) | SCALARS, min_size=1, max_size=7),
)
RECORDS = st.one_of(
    st.fixed_dictionaries({"id": st.text(), "team": st.integers(0, 9), "image": IMAGES, "amount": NUMBERS}).map(
        lambda value: json.dumps(value).encode()
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.text() | SCALARS,
            "team": SCALARS | st.integers(0, 9),
            "image": IMAGES | SCALARS,
            "amount": SCALARS | IMAGES,
            "age": SCALARS | st.integers(0, 255),
            "kind": SCALARS | st.text(max_size=3),
            "surplus": IMAGES,
        },
    ).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20) | st.none(),
)


def simple_verdict(value: bytes | None) -> bool:
    """The same rules for one record, written as plainly as possible."""

    def number(element: object, dtype: str) -> bool:
        if type(element) in (int, float) and dtype == "float64":
            return abs(element) <= 1e250  # type: ignore[arg-type]
        if type(element) in (int, float) and dtype == "float32":
            return abs(float(element)) < 3.4028235677973366e38  # type: ignore[arg-type]
        if dtype.startswith("float"):
            return False
        limits = np.iinfo(dtype)
        return type(element) is int and limits.min <= element <= limits.max

    def image(element: object) -> bool:
        if not isinstance(element, list):
            return False
        if len(element) == 2 and all(isinstance(row, list) and len(row) == 3 for row in element):
            element = [*element[0], *element[1]]
        return len(element) == 6 and all(number(pixel, "float32") for pixel in element)

    try:
        got = json.loads(value or b"")
    except ValueError:
        return False
    if not isinstance(got, dict):
        return False
    return (
        isinstance(got.get("id"), str)
        and got["id"].strip() != ""
        and number(got.get("team"), "int64")
        and (got.get("image") is None or image(got["image"]))
        and number(got.get("amount"), "float64")
        and (got.get("age") is None or number(got["age"], "uint8"))
        and (got.get("kind") is None or isinstance(got["kind"], str))
    )


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(RECORDS, max_size=12))
def test_a_batch_is_judged_like_each_record_alone(mixed: Pipeline, values: list[bytes | None]) -> None:
    checker = RecordChecker(mixed.stream)

    whole = checker.check(values, [0] * len(values), range(len(values)))
    alone = [checker.check([value], [0], [offset]) for offset, value in enumerate(values)]

    assert whole.batch == pa.concat_batches([checker.check([], [], []).batch, *(one.batch for one in alone)])
    reasons = [(position, one.rejected[0].reason) for position, one in enumerate(alone) if one.rejected]
    assert [(rejection.position, rejection.reason) for rejection in whole.rejected] == reasons
    judged = [value for value in values if value is None or b"\\u" not in value]
    assert len(checker.check(judged, [0] * len(judged), range(len(judged))).rejected) == sum(
        not simple_verdict(value) for value in judged
    )
    require_columns(whole.batch, mixed.stream.fields)
    assert from_ipc(to_ipc(whole.batch)) == whole.batch


def test_a_long_batch_with_few_faults(mixed: Pipeline) -> None:
    values = [record(id=str(position)) for position in range(1000)]
    for position in (0, 63, 64, 500, 999):
        values[position] = record(team=None)

    checked = check(mixed, *values)

    assert [rejection.position for rejection in checked.rejected] == [0, 63, 64, 500, 999]
    assert checked.batch.num_rows == 995
    assert checked.batch.column("_offset").to_pylist() == [int(text) for text in checked.batch.column("id").to_pylist()]


@pytest.mark.parametrize("place", [0, 1, 63, 64, 99])
def test_a_boolean_among_zeros_and_ones_is_found_wherever_it_stands(mixed: Pipeline, place: int) -> None:
    values = [record(id="true or false", image=[[0, 1, 0], [1, 0, 1]], amount=1) for _ in range(100)]
    values[place] = record(image=[[0, 1, 0], [1, False, 1]], amount=1)

    [rejection] = check(mixed, *values).rejected

    assert (rejection.position, rejection.rule) == (place, "type")
    assert rejection.reason == "image: element 4: expected a value of type float32, got false"


def test_what_is_written_in_another_way_is_one_value(mixed: Pipeline) -> None:
    head = b'{"id": "a", "team": 1, "amount": 1, '
    values = [
        head + b'"im\\u0061ge": [9, 9, 9, 9, 9, 9]}',
        head + b'"image": [9.0, 9e0, 90E-1, 9, 0.9e+1, 9]}',
        b"\n\t" + head + b'\r\n"image": [[9,9,9]\n,\n[9,9,9]]} \n',
    ]

    assert check(mixed, *values).batch.column("image").to_pylist() == [[9.0] * 6] * 3


@pytest.mark.parametrize(
    "pair",
    [
        (b'{"id": "a", "team": [1,', b'{"team": 1}], "amount": 1}'),
        (record() + b"\n" + record(), b""),
        (record() + b"," + record(), b" "),
        (record()[:-1], record()[1:]),
        (b"\xef\xbb\xbf" + record(), b'{"id": "a", "team": 01, "amount": 1}'),
    ],
)
def test_neighbours_never_make_up_for_each_other(mixed: Pipeline, pair: tuple[bytes, bytes]) -> None:
    checked = check(mixed, record(), *pair, record())

    assert [(rejection.position, rejection.rule) for rejection in checked.rejected] == [(1, "json"), (2, "json")]


def test_a_list_of_ones_may_be_nested_or_flat(digits: Pipeline) -> None:
    identity, _, pixels, digit = digits.stream.fields
    pixels = pixels.model_copy(update={"shape": (4, 1), "range": None})
    stream = digits.stream.model_copy(update={"fields": (identity, pixels, digit)})
    values = [
        b'{"id": "a", "pixels": [1, 2, 3, 4], "digit": 1}',
        b'{"id": "b", "pixels": [[1], [2], [3], [4]], "digit": 1}',
        b'{"id": "c", "pixels": [[1], [2], [3], 4], "digit": 1}',
    ]

    checked = RecordChecker(stream).check(values, [0] * 3, range(3))

    assert checked.batch.column("pixels").to_pylist() == [[1, 2, 3, 4]] * 2
    assert [rejection.rule for rejection in checked.rejected] == ["shape"]


@pytest.mark.parametrize("cut", [0, 1, 8, 100, -9])
def test_cut_arrow_bytes_are_refused(mixed: Pipeline, cut: int) -> None:
    with pytest.raises(BatchInvalid):
        from_ipc(to_ipc(check(mixed, record()).batch)[:cut])


@pytest.mark.parametrize("count", [0, 2])
def test_a_stream_holds_one_batch(mixed: Pipeline, count: int) -> None:
    batch = check(mixed, record()).batch
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(count):
            writer.write_batch(batch)

    with pytest.raises(BatchInvalid, match=f"of one batch, got {count}"):
        from_ipc(bytes(sink.getvalue()))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_damaged_arrow_bytes_never_lead_astray(mixed: Pipeline, place: int, change: int) -> None:
    values, times = [record(), record(id="b" * 40)], np.array([TIME, "NaT"], "M8[us]")
    data = bytearray(to_ipc(RecordChecker(mixed.stream).check(values, [0, 0], [0, 1], None, times).batch))
    data[place % len(data)] ^= change

    try:
        batch = from_ipc(bytes(data))
        require_columns(batch, mixed.stream.fields)
    except BatchInvalid:
        return
    batch.to_pydict()


def test_columns_of_another_stream_are_refused(mixed: Pipeline, digits: Pipeline) -> None:
    batch = check(mixed, record()).batch
    with pytest.raises(BatchInvalid, match="expected the columns"):
        require_columns(batch, digits.stream.fields)
    retyped = batch.set_column(3, "amount", pa.array([1.0], pa.float32()))
    with pytest.raises(BatchInvalid, match="expected column 'amount' of type double, got float"):
        require_columns(retyped, mixed.stream.fields)
    emptied = batch.set_column(3, "amount", pa.array([None], pa.float64()))
    with pytest.raises(BatchInvalid, match="expected no null in column 'amount', got 1"):
        require_columns(emptied, mixed.stream.fields)


def test_booleans_become_ones_and_zeros(digits: Pipeline) -> None:
    identity, pixels, label = digits.stream.fields[0], digits.stream.fields[2], digits.stream.fields[-1]
    flags = pixels.model_copy(update={"name": "flags", "type": "bool", "shape": (2,), "range": None, "nullable": True})
    ringed = flags.model_copy(update={"name": "ringed", "shape": ()})
    tame = label.model_copy(update={"name": "tame", "type": "bool", "range": None})
    stream = digits.stream.model_copy(update={"fields": (identity, flags, ringed, tame)})
    values = [
        b'{"id": "a", "flags": [true, false], "ringed": null, "tame": true}',
        b'{"id": "b", "flags": null, "ringed": true, "tame": false}',
        b'{"id": "c", "flags": [true, 0], "ringed": true, "tame": false}',
        b'{"id": "d", "ringed": false, "tame": 1}',
        b'{"id": "e", "ringed": "yes", "tame": true}',
    ]

    checked = RecordChecker(stream).check(values, [0] * 5, range(5))

    assert checked.batch.schema == arrow_schema(stream.fields)
    columns = checked.batch.to_pydict()
    assert (columns["flags"], columns["ringed"], columns["tame"]) == ([[1, 0], None], [None, 1], [1, 0])
    assert [(one.rule, one.field, one.reason) for one in checked.rejected] == [
        ("type", "flags", "flags: element 1: expected a value of type bool, got 0"),
        ("type", "tame", "tame: expected a value of type bool, got 1"),
        ("type", "ringed", 'ringed: expected a value of type bool, got "yes"'),
    ]


def test_nothing_is_imported_while_the_first_records_wait(mixed: Pipeline) -> None:
    program = """
import sys
from headrace_data.batches import to_ipc
from headrace_data.records import RecordChecker
from headrace_data.spec import parse_canonical
checker = RecordChecker(parse_canonical(sys.argv[1].encode()).stream)
before = set(sys.modules)
to_ipc(checker.check([sys.argv[2].encode()], [0], [0]).batch)
print(*sorted(set(sys.modules) - before))
"""
    told = [mixed.canonical_json().decode(), record().decode()]
    done = subprocess.run([sys.executable, "-c", program, *told], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
