"""Records that are not rows yet: the SELECT that `init` drafts, and that it makes rows of them."""

import json
from typing import Any

import pytest
from headrace_client.drafting import Draft, draft_pipeline
from headrace_client.written_numbers import ways_of
from headrace_data.records import Checked, RecordChecker
from headrace_data.spec import load_pipeline


def drafted(records: list[dict[str, Any]], label: str | None = None) -> tuple[Draft, Checked]:
    values: list[bytes | None] = [json.dumps(record).encode() for record in records]
    draft = draft_pipeline("t", values, label)
    stream = load_pipeline(draft.text).stream
    return draft, RecordChecker(stream).check(values, [0] * len(values), range(len(values)))


def lines(draft: Draft) -> dict[str, str]:
    """Return the SQL of each field."""
    select = load_pipeline(draft.text).stream.select or ""
    parts = [line.partition(" -- ")[0].rstrip(",").rpartition(" AS ") for line in select.splitlines()]
    return {name: sql for sql, _, name in parts}


def test_changes_and_messages_of_devices_in_one_topic_become_rows() -> None:
    change = {"schema": {}, "payload": {"before": {"x": 0}, "after": {"id": "a1", "x": 1.5, "y": "ok"}, "op": "c"}}
    draft, checked = drafted([change, {"id": "a2", "payload": {"x": 2.5, "hum": 0.3}, "y": "bad"}])
    assert checked.rejected == []
    assert lines(draft) == {
        "id": "coalesce(id, payload.after.id)",
        "x": "CAST(coalesce(payload.x, payload.after.x) AS DOUBLE)",
        "y": "coalesce(y, payload.after.y)",
        "hum": "payload.hum",
        "op": "payload.op",
    }


@pytest.mark.parametrize("schemas", [False, True])
def test_changes_are_drafted_as_the_rows_in_them(schemas: bool) -> None:
    rows = [{"id": f"r{n}", "x": n / 2, "kind": "ab"[n % 2]} for n in range(40)]
    changes: list[Any] = [
        {"before": rows[0], "after": row, "op": "cru"[n % 3], "ts_ms": n} for n, row in enumerate(rows)
    ]
    changes.append({"before": rows[1], "after": None, "op": "d", "ts_ms": 50})
    values: list[bytes | None] = [
        json.dumps({"schema": {"name": "s"}, "payload": each} if schemas else each).encode() for each in changes
    ]
    draft = draft_pipeline("t", [*values, None])
    stream = load_pipeline(draft.text).stream
    assert (stream.envelope, stream.select, draft.rejected) == ("debezium", None, {})
    assert [field.name for field in stream.fields] == ["id", "x", "kind"]
    checked = RecordChecker(stream).check([*values, None], [0] * 42, range(42))
    assert (len(checked.batch), {each.rule for each in checked.rejected}) == (40, {"deleted"})


def test_events_are_drafted_as_their_data() -> None:
    told = {"specversion": "1.0", "source": "/s", "type": "t", "time": "2026-01-01T00:00:00Z"}
    draft, checked = drafted(
        [{**told, "id": f"e{n}", "data": {"a b": n / 2, "kind": "xy"[n % 2]}} for n in range(40)], "kind"
    )
    assert checked.rejected == []
    assert (load_pipeline(draft.text).stream.envelope, lines(draft)) == (
        "cloudevents",
        {"a_b": '"a b"', "kind": "kind", "ce_id": "ce_id"},
    )
    assert load_pipeline(draft.text).stream.key == "ce_id"


def test_a_number_of_several_places_beyond_int64_is_a_float() -> None:
    draft, checked = drafted([{"a": {"x": 1}, "k": 1, "y": "ok"}, {"x": 2**63, "k": 2, "y": "bad"}])
    assert checked.rejected == []
    assert lines(draft)["x"] == "CAST(coalesce(x, a.x) AS DOUBLE)"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("sepal length (cm)", "sepal_length_cm"),
        ("größe", "grosse"),
        ("_size", "size"),
        ("@size", "size"),
        ("2nd", "n2nd"),
        ("order", "order"),
        ("a.b c", "a_b_c"),
    ],
)
def test_a_name_that_a_tensor_cannot_have_gets_a_plain_one(key: str, name: str) -> None:
    records = [{"_id": f"r{n}", key: n / 2, "kind": "ab"[n % 2]} for n in range(30)]
    draft, checked = drafted(records, "kind")
    assert checked.rejected == []
    assert checked.batch.column(name).to_pylist() == [record[key] for record in records]
    assert load_pipeline(draft.text).stream.key == "id"


@pytest.mark.parametrize(
    ("values", "sql", "read"),
    [
        (["1.50", "2.25"], "TRY_CAST(v AS DOUBLE)", [1.5, 2.25]),
        (["1,50", "1.002,25"], "TRY_CAST(replace(replace(v, '.', ''), ',', '.') AS DOUBLE)", [1.5, 1002.25]),
        (["1.5 kg", "2kg"], "TRY_CAST(replace(v, 'kg', '') AS DOUBLE)", [1.5, 2.0]),
        (["1.5", "NA", "n/a"], "TRY_CAST(nullif(nullif(v, 'NA'), 'n/a') AS DOUBLE)", [1.5, None, None]),
        ([1.5, " ", "2.5"], "TRY_CAST(nullif(trim(v), '') AS DOUBLE)", [1.5, None, 2.5]),
        (
            ["true", "false"],
            "CASE WHEN lower(v) IN ('true') THEN true WHEN lower(v) IN ('false') THEN false END",
            [1, 0],
        ),
        (
            ["Yes", "y ", "no"],
            "CASE WHEN lower(trim(v)) IN ('yes', 'y', 'true', 't', 'on') THEN true WHEN lower(trim(v)) IN "
            "('no', 'n', 'false', 'f', 'off') THEN false END",
            [1, 1, 0],
        ),
        (["red", "n/a", "blue"], "nullif(v, 'n/a')", ["red", None, "blue"]),
        (["red", "#DIV/0!", "-"], "nullif(v, '#DIV/0!')", ["red", None, "-"]),
        (
            ["1.5", "n.a.", "--", "#WERT!"],
            "TRY_CAST(nullif(nullif(nullif(v, '#WERT!'), '--'), 'n.a.') AS DOUBLE)",
            [1.5],
        ),
        (["$1,234.50", "-$7"], "TRY_CAST(replace(replace(v, '$', ''), ',', '') AS DOUBLE)", [1234.5, -7.0]),
        (
            ["1.234,50 €", "-7,25 €"],
            "TRY_CAST(replace(replace(replace(v, '€', ''), '.', ''), ',', '.') AS DOUBLE)",
            [1234.5, -7.25],
        ),
        (["EUR 3.5", "EUR 20.25"], "TRY_CAST(replace(v, 'EUR', '') AS DOUBLE)", [3.5, 20.25]),
        (["1,234", "12,345,678", "9"], "TRY_CAST(replace(v, ',', '') AS DOUBLE)", [1234.0, 12345678.0, 9.0]),
        (["1,250", "0,125"], "TRY_CAST(replace(v, ',', '.') AS DOUBLE)", [1.25, 0.125]),
        (
            ["(1,234.00)", "5.00"],
            "TRY_CAST(replace(replace(replace(v, ',', ''), '(', '-'), ')', '') AS DOUBLE)",
            [-1234.0],
        ),
        (["1'234.5", "2.5"], "TRY_CAST(replace(v, '''', '') AS DOUBLE)", [1234.5, 2.5]),
        (["1\u202f234,5", "2,5"], "TRY_CAST(replace(replace(v, chr(8239), ''), ',', '.') AS DOUBLE)", [1234.5, 2.5]),
        (["1 234,5", "2,5"], "TRY_CAST(replace(replace(v, ' ', ''), ',', '.') AS DOUBLE)", [1234.5, 2.5]),
        (["12,5 %", "8,0 %"], "TRY_CAST(replace(replace(v, '%', ''), ',', '.') AS DOUBLE)", [12.5, 8.0]),
        (["12.50-", "3.25"], "TRY_CAST(regexp_replace(trim(v), '^(.*)-$', '-\\1') AS DOUBLE)", [-12.5, 3.25]),
        (["\u22121.5", "2.5"], "TRY_CAST(replace(v, '\u2212', '-') AS DOUBLE)", [-1.5, 2.5]),
        (["k17", "k18"], None, ["k17", "k18"]),
        (
            ["Ja", "nein", "JA"],
            "CASE WHEN lower(v) IN ('yes', 'y', 'true', 't', 'on', 'ja') THEN true WHEN lower(v) IN "
            "('no', 'n', 'false', 'f', 'off', 'nein') THEN false END",
            [1, 0, 1],
        ),
        (["007", "123"], None, ["007", "123"]),
    ],
)
def test_texts_that_stand_for_something_else_are_read(values: list[Any], sql: str | None, read: list[Any]) -> None:
    records = [{"id": f"r{n}", "x": n / 2, "v": values[n % len(values)], "class": n % 2} for n in range(40)]
    draft, checked = drafted(records, "class")
    assert checked.rejected == []
    assert checked.unread == {}
    assert checked.batch.column("v").to_pylist()[: len(read)] == read
    assert lines(draft).get("v") == sql
    assert draft.selects == (sql is not None)


@pytest.mark.parametrize(
    ("pattern", "texts", "seconds"),
    [
        ("%d.%m.%Y", ["31.01.2026", "1.2.2026"], [1769817600, 1769904000]),
        ("%d/%m/%Y", ["31/01/2026", "01/02/2026"], [1769817600, 1769904000]),
        ("%m/%d/%y", ["01/31/26", "2/1/26"], [1769817600, 1769904000]),
        ("%d-%b-%Y", ["31-Jan-2026", "01-Feb-2026"], [1769817600, 1769904000]),
        ("%B %d, %Y", ["January 31, 2026", "February 1, 2026"], [1769817600, 1769904000]),
        ("%m/%d/%Y %I:%M %p", ["1/31/2026 1:05 PM", "2/1/2026 12:00 AM"], [1769864700, 1769904000]),
        ("%d/%m/%Y %H:%M", ["01/02/2026 00:00", "03/02/2026 13:30"], [1769904000, 1770125400]),
    ],
)
def test_dates_become_seconds_in_the_ways_that_people_write_them(
    pattern: str, texts: list[str], seconds: list[int]
) -> None:
    records = [{"id": f"r{n}", "Datum": texts[n % 2], "y": "ab"[n % 2]} for n in range(40)]
    draft, checked = drafted(records)
    assert lines(draft)["Datum"] == f"epoch_us(try_strptime(Datum, '{pattern}')) // 1000000"
    assert checked.batch.column("Datum").to_pylist()[:2] == seconds
    # Where days and months could be each other, the draft asks.
    assert all(("which is day" in told) == (pattern == "%d/%m/%Y %H:%M") for told in (draft.text, str(draft.doubts)))


def test_a_long_text_is_no_number_and_is_not_looked_through() -> None:
    long = "-" + " " * 30_000 + "x"
    assert {way.read(long) for way in ways_of(["1.5", long])} == {None}


def test_numbers_of_two_sizes_are_told() -> None:
    records = [{"id": f"r{n}", "v": "900" if n % 3 else f"{n / 2}K", "y": "ab"[n % 2]} for n in range(60)]
    assert "900 has no K, and is taken for as much as if it had" in str(drafted(records)[0].doubts)


def test_days_and_months_are_asked_for_beside_a_text_that_is_no_date() -> None:
    texts = [f"0{1 + n % 9}/0{1 + n % 7}/2026" for n in range(60)]
    draft, _ = drafted([{"id": f"r{n}", "Datum": text, "y": "ab"[n % 2]} for n, text in enumerate([*texts, "soon"])])
    assert "which is day and which is month" in str(draft.doubts)


def test_a_few_words_among_numbers_are_missing_and_named() -> None:
    records = [{"id": f"r{n}", "v": "<0.1" if n % 5 == 0 else f"{n}.5", "y": "ab"[n % 2]} for n in range(100)]
    draft, checked = drafted(records)
    assert (lines(draft)["v"], checked.unread) == ("TRY_CAST(v AS DOUBLE)", {"v": 20})
    assert "'<0.1' (20) cannot be read so, and become missing" in draft.text


def test_rows_without_a_name_are_divided_by_what_they_hold() -> None:
    records: list[dict[str, Any]] = [{"a": n / 2, "b c": n % 3 / 2, "kind": "xy"[n % 2]} for n in range(40)]
    draft, checked = drafted([*records, {"a": None, "kind": "x"}, records[0]])
    assert checked.rejected == []
    assert lines(draft)["row"] == "md5(concat_ws('|', a, \"b c\"))"
    # By a number with few values a split would be of two kinds of rows.
    few, _ = drafted([{"a": n / 2, "door": n % 3, "kind": "xy"[n % 2]} for n in range(200)])
    assert lines(few)["row"] == "md5(concat_ws('|', a, door))"
    pipeline = load_pipeline(draft.text)
    assert (pipeline.stream.key, draft.roles.split_by) == (None, None)
    digests = checked.batch.column("row").to_pylist()
    assert (len({*digests}), digests[0] == digests[-1]) == (41, True)


def test_a_moment_becomes_seconds_and_a_long_number_keeps_its_digits() -> None:
    records = [
        {"id": f"r{n}", "seen_at": f"{n + 1:02}.07.2026 12:30", "account": str(2**53 + 1 + n), "y": "ab"[n % 2]}
        for n in range(20)
    ]
    draft, checked = drafted(records)
    assert checked.rejected == []
    assert checked.batch.column("seen_at").to_pylist()[:2] == [1782909000, 1782995400]
    assert checked.batch.column("account").to_pylist()[0] == 2**53 + 1
    assert "taken for UTC" in draft.text


def test_a_fraction_is_no_whole_number_of_another_size() -> None:
    records = [{"id": f"r{n}", "v": str(n * 7), "y": "ab"[n % 2]} for n in range(60)]
    draft, _ = drafted([*records, {"id": "none", "y": "a"}])
    odd = ["1.5", "0x1F", "12.0", " -3 ", str(2**62)]
    values = [json.dumps({**records[0], "v": value}).encode() for value in odd]
    checked = RecordChecker(load_pipeline(draft.text).stream).check(values, [0] * 5, range(5))
    assert (checked.batch.column("v").to_pylist(), checked.unread) == ([None, None, 12, -3, 2**62], {"v": 2})


def test_the_label_is_named_by_its_path_and_keeps_its_words() -> None:
    records = [{"key": f"r{n}", "o": {"in": n / 3, "churned": ("Yes", "yes ", "no")[n % 3]}} for n in range(30)]
    draft, checked = drafted(records, "o.churned")
    assert draft.roles.label.field.name == "churned"
    assert set(checked.batch.column("churned").to_pylist()) == {"Yes", "yes ", "no"}
    assert lines(draft)['"in"'] == 'o."in"'


def test_flat_records_with_plain_names_and_values_need_none() -> None:
    records = [
        {"id": f"r{n}", "a.b": n, "at": f"2026-01-01T00:{n:02}:00Z", "mood": " good", "gone": None, "y": "yn"[n % 2]}
        for n in range(30)
    ]
    draft, checked = drafted(records)
    assert not draft.selects
    assert "  select:" not in draft.text
    # What was left out can be read, and the draft says how.
    assert "`epoch_us(TRY_CAST(at AS TIMESTAMPTZ)) // 1000000 AS at` in stream.select makes seconds of it" in draft.text
    assert checked.rejected == []
