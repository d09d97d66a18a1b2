"""What a SELECT makes of records, and of those that it cannot read."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from headrace_data.errors import SelectInvalid, SelectTooSlow
from headrace_data.records import Checked, RecordChecker
from headrace_data.select.engine import Engine, OutOfTime
from headrace_data.select.functions import growth
from headrace_data.spec import Stream
from hypothesis import given, settings
from hypothesis import strategies as st


class Message(NamedTuple):
    key: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


FIELDS = {
    "id": ("string", False),
    "amount": ("float64", True),
    "count": ("int64", True),
    "member": ("bool", True),
    "city": ("string", True),
}


def stream(fields: dict[str, tuple[str, bool]] = FIELDS, time: str | None = None, **changes: str) -> Stream:
    """A stream whose SELECT takes each field as it is, but for these."""
    schema = [
        {"name": name, "type": kind, "nullable": nullable, "role": "id" if name == "id" else "feature"}
        for name, (kind, nullable) in fields.items()
    ]
    select = ",\n".join(f"{text} AS {name}" for name, text in ({name: name for name in fields} | changes).items())
    document = {"topic": "t", "schema": schema, "select": select} | ({"time": time} if time else {})
    return Stream.model_validate_json(json.dumps(document))


def check(of: Stream, *records: Any, messages: Sequence[Message] | None = None) -> Checked:
    values = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    return RecordChecker(of).check(values, [0] * len(values), range(len(values)), messages=messages)


def rows(checked: Checked) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name[0] != "_"} for row in checked.batch.to_pylist()]


def test_paths_reach_into_records_and_keep_what_is_there() -> None:
    of = stream(id="payload.after.id", amount='"a b"."c.d"', count="items[2].n", member="items[-1]['ok']", city="Ort")
    record = {
        "payload": {"after": {"id": "x"}},
        "a b": {"c.d": 1.5},
        "items": [{}, {"n": 2**62 + 1}, {"ok": True}],
        "Ort": "Köln",
        "ort": "other",
    }
    [row] = rows(check(of, record))
    assert row == {"id": "x", "amount": 1.5, "count": 2**62 + 1, "member": 1, "city": "Köln"}


@pytest.mark.parametrize("outer", [{}, {"payload": None}, {"payload": [1]}, {"payload": {"after": "x"}}])
def test_a_path_that_leads_nowhere_finds_nothing(outer: dict[str, Any]) -> None:
    checked = check(stream(city="payload.after.city", count="payload.after[3]"), {"id": "a"} | outer)
    assert rows(checked) == [{"id": "a", "amount": None, "count": None, "member": None, "city": None}]


def test_expressions_are_computed_of_texts() -> None:
    of = stream(
        amount="TRY_CAST(replace(amount, ',', '.') AS DOUBLE)",
        count="TRY_CAST(nullif(count, 'n/a') AS BIGINT)",
        member="lower(trim(member)) IN ('yes', 'true')",
        city="coalesce(nullif(trim(city), ''), 'none')",
    )
    records = [
        {"id": "a", "amount": "1,5", "count": "9007199254740993", "member": " Yes", "city": ""},
        {"id": "b", "amount": 2.25, "count": 7, "member": True, "city": "Bern"},
        {"id": "c", "amount": "?", "count": "n/a", "member": "no"},
    ]
    checked = check(of, *records)
    assert [list(row.values()) for row in rows(checked)] == [
        ["a", 1.5, 9007199254740993, 1, "none"],
        ["b", 2.25, 7, 1, "Bern"],
        ["c", None, None, 0, "none"],
    ]
    assert checked.unread == {"amount": 1}  # what is called missing in so many words is not counted


def test_lists_and_objects_are_json_to_expressions() -> None:
    of = stream(city="json_extract_string(city, '$.a')", count="TRY_CAST(json_array_length(count) AS BIGINT)")
    [row] = rows(check(of, {"id": "a", "city": {"a": 'é"x'}, "count": [1, [2]]}))
    assert (row["city"], row["count"]) == ('é"x', 2)


def test_names_that_differ_by_case_are_two() -> None:
    [row] = rows(check(stream(city="a || '-' || A || '-' || \"a.b\" || '-' || a.b"), {"id": "i", "a": "1", "A": "2"}))
    assert row["city"] is None
    [row] = rows(check(stream(city="a || '-' || A"), {"id": "i", "a": "1", "A": "2"}))
    assert row["city"] == "1-2"


def test_key_headers_and_timestamp_are_of_the_message() -> None:
    of = stream(id="$key", city="$headers['city']", count="$timestamp", amount="CAST($timestamp AS DOUBLE) / 1000.0")
    messages = [
        Message(b"k1", [("city", b"Bern"), ("city", b"Basel")], 1_500),
        Message(b"\xff", [("city", b"\xff")], 1_500),
    ]
    checked = check(of, {}, {}, messages=messages)
    assert rows(checked) == [{"id": "k1", "city": "Basel", "count": 1500, "amount": 1.5, "member": None}]
    assert [fault.rule for fault in checked.rejected] == ["missing"]
    assert [fault.rule for fault in check(of, {}).rejected] == ["missing"]


def test_a_time_is_made_of_a_text() -> None:
    of = stream(time="at", at="try_strptime(ts, '%d.%m.%Y %H:%M') AT TIME ZONE 'Europe/Berlin'")
    checked = check(of, {"id": "a", "ts": "01.07.2026 12:30"}, {"id": "b", "ts": "never"})
    assert [value.isoformat() for value in checked.batch.column("_time").to_pylist()] == ["2026-07-01T10:30:00+00:00"]
    assert [(fault.rule, fault.field, fault.position) for fault in checked.rejected] == [("time", "at", 1)]


def test_a_record_that_cannot_be_computed_is_named_and_stops_no_other() -> None:
    of = stream(amount="CAST(amount AS DOUBLE)", count="CAST(Count AS BIGINT) + 1")
    records: list[Any] = [{"id": str(at), "amount": at, "Count": "1"} for at in range(40)]
    records[7]["Count"], records[30]["amount"] = "seven", "thirty"
    checked = check(of, *records, b"{")
    assert checked.batch.num_rows == 38
    assert [(fault.position, fault.rule, fault.field) for fault in checked.rejected] == [
        (7, "select", "count"),
        (30, "select", "amount"),
        (40, "json", ""),
    ]
    assert checked.rejected[0].reason == (
        'count: expected a value of (CAST(Count AS BIGINT) + 1), got Count = "seven": '
        "Could not convert string 'seven' to INT64 when casting from source column Count"
    )


def test_checks_of_the_schema_stay_behind_it() -> None:
    of = stream(amount="CAST(amount AS DOUBLE)", count="TRY_CAST(count AS DOUBLE)::BIGINT")
    faults = check(
        of, {"id": "a", "amount": "inf"}, {"id": "b", "amount": "nan"}, {"id": " "}, b'{"id": "c", "x": 1, "x": 2}'
    ).rejected
    assert [fault.rule for fault in faults] == ["overflow", "overflow", "missing", "json"]


def test_computing_is_interrupted() -> None:
    endless = "SELECT count(*) AS n FROM rows, range(1000000) AS a, range(1000000) AS b"
    engine, rows_of_one = Engine(), pa.table({"x": ["a"]})
    with pytest.raises(OutOfTime, match="more than"):
        engine.compute(endless, rows_of_one, 0.05)
    assert engine.compute("SELECT x FROM rows", rows_of_one, 60).to_pylist() == [{"x": "a"}]


@pytest.mark.parametrize(("slow", "told"), [(1, None), (3, "stopped 8 times")])
def test_one_slow_record_is_rejected_and_many_stop_the_pipeline(
    monkeypatch: pytest.MonkeyPatch, slow: int, told: str | None
) -> None:
    compute = Engine.compute

    def slowly(self: Engine, query: str, rows: pa.Table, limit_s: float) -> pa.Table:
        if "slow" in rows.column("city").to_pylist():
            raise OutOfTime("it took more than 5 s")
        return compute(self, query, rows, limit_s)

    monkeypatch.setattr(Engine, "compute", slowly)
    records = [{"id": str(at), "city": "slow" if at % 8 == 0 and at < 8 * slow else "x"} for at in range(32)]
    with pytest.raises(SelectTooSlow, match=told) if told else nullcontext():
        checked = check(stream(city="upper(city)"), *records)
        assert [(fault.position, fault.rule, fault.field) for fault in checked.rejected] == [(0, "select", "city")]
        assert checked.batch.num_rows == 31


@pytest.mark.parametrize(("stops", "told"), [(True, "stopped 8 times"), (False, "within 40 s of computing")])
def test_a_batch_is_computed_in_a_minute_or_not_at_all(monkeypatch: pytest.MonkeyPatch, stops: bool, told: str) -> None:
    clock, calls = count(step=3.0), list[pa.Table]()

    def slowly(_: Engine, _query: str, rows: pa.Table, _limit_s: float) -> pa.Table:
        calls.append(rows)
        if stops:
            raise OutOfTime("it took more than 5 s")
        return pa.table({"v0": ["X"] * rows.num_rows})

    monkeypatch.setattr(Engine, "compute", slowly)
    monkeypatch.setattr("headrace_data.records.rows_at_once", lambda _: 1)
    monkeypatch.setattr("headrace_data.select.projecting.time.monotonic", lambda: next(clock) if not stops else 0.0)
    with pytest.raises(SelectTooSlow, match=told):
        check(stream(city="upper(city)"), *({"id": str(at), "city": "x"} for at in range(32)))
    assert len(calls) == (2 * 8 if stops else 14)


def test_what_only_grows_with_a_number_or_a_product_is_refused() -> None:
    assert growth(Engine().parsed("SELECT replace(a, 'x', 'yyyy') || b")["statements"][0]["node"]["select_list"]) == 6
    for text in ("repeat(city, 1000000000)", "lpad(city, 1000000000, ' ')", "levenshtein(city, id)"):
        with pytest.raises(SelectInvalid, match="is not taken"):
            RecordChecker(stream(city=text))
    for _ in range(12):
        text = f"replace({text if 'repl' in text else 'city'}, 'a', 'aaaa')"
    with pytest.raises(SelectInvalid, match="at most 256 times the bytes"):
        RecordChecker(stream(city=text))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
RECORDS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)), max_size=6)
PLAIN = RecordChecker(stream().model_copy(update={"select": None}))
AS_IT_IS = RecordChecker(stream())
TRYING = RecordChecker(
    stream(
        amount="TRY_CAST(amount.a AS DOUBLE)",
        count="CAST(count AS BIGINT)",
        member="TRY_CAST(member AS BOOLEAN)",
        city="upper(city[1]) || id",
    )
)


@settings(max_examples=25, deadline=None)
@given(RECORDS)
def test_a_select_of_bare_names_changes_nothing(records: list[dict[str, Any]]) -> None:
    values, places = [json.dumps(each).encode() for each in records], [0] * len(records)
    plain, selected = (each.check(values, places, places) for each in (PLAIN, AS_IT_IS))
    assert selected.batch.equals(plain.batch)
    assert selected.rejected == plain.rejected


@settings(max_examples=8, deadline=None)
@given(RECORDS)
def test_every_record_is_a_row_or_a_rejection_whatever_it_holds(records: list[dict[str, Any]]) -> None:
    values, places = [json.dumps(each).encode() for each in records], range(len(records))
    checked = TRYING.check(values, [0] * len(records), places)
    kept = checked.batch.column("_offset").to_pylist()
    assert sorted([*kept, *(fault.position for fault in checked.rejected)]) == list(places)
    # One by one they come to the same.
    alone = [TRYING.check([value], [0], [at]).batch.num_rows for at, value in enumerate(values)]
    assert [at for at, rows in enumerate(alone) if rows] == kept


@pytest.mark.parametrize(("before", "behind", "times"), [("[", "]", 1_000), ('{"k":[{"a":{},"b":', '},"é"]}', 330)])
def test_a_value_may_be_nested_as_deep_as_json_is_read(before: str, behind: str, times: int) -> None:
    text = before * times + "1" + behind * times
    city = "replace(city, ' ', '')"
    [row] = rows(check(stream(city=city), f'{{"id": "a", "city": {text}}}'.encode()))
    assert row["city"] == text
