"""What `validate` says of a SELECT."""

import sys
from typing import Any

import pytest
import yaml
from headrace_data.spec import SpecInvalid, load_pipeline, parse_canonical

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: members}
stream:
  topic: members
  schema:
    - {name: id, type: string, role: id}
    - {name: amount, type: float32, role: feature}
    - {name: count, type: int32, role: feature, nullable: true}
    - {name: sizes, type: float32, shape: [2], role: feature}
    - {name: member, type: bool, role: label}
prepare: {transform: {count: {impute: median}}}
train: {network: {kind: mlp, hidden: [8]}, epochs: 1}
"""
WHOLE = {"id": "id", "amount": "amount", "count": "count", "sizes": "sizes", "member": "member"}


def document(select: str, time: str | None = None) -> str:
    value: dict[str, Any] = yaml.safe_load(DOCUMENT)
    value["stream"] |= {"select": select} | ({"time": time} if time else {})
    return yaml.safe_dump(value)


def problems(select: str, time: str | None = None) -> list[str]:
    try:
        load_pipeline(document(select, time))
    except SpecInvalid as error:
        return [problem.message if problem.path == "stream.select" else str(problem) for problem in error.problems]
    return []


def with_(time: str | None = None, **changes: str) -> list[str]:
    return problems(",\n".join(f"{text} AS {name}" for name, text in (WHOLE | changes).items()), time)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": "TRY_CAST(replace(amount, ',', '.') AS DOUBLE) * 1.5"},
        {"amount": "CAST(a AS DECIMAL(10, 2)) + 1", "count": "CAST(n AS SMALLINT) + 1"},
        {"amount": "CASE WHEN a IN ('NA', 'n/a') THEN NULL ELSE CAST(a AS FLOAT) END", "count": "NULL"},
        {"member": "lower(trim(m)) IN ('yes', 'y') OR m LIKE 't%' AND NOT m ~ 'x' OR m IS NULL"},
        {"sizes": "[CAST(w AS DOUBLE), CAST(h[1] AS DOUBLE)]", "id": "a.b || '-' || $key || $headers['x']"},
        {"count": "CAST(date_diff('day', CAST(a AS DATE), try_strptime(b, '%d.%m.%Y')) AS INTEGER)"},
        {"id": "split_part(line, ';', 3)", "count": "CAST(regexp_extract(line, '([0-9]+)', 1) AS BIGINT)"},
        {"count": "CAST(year(try_strptime(a, ['%d.%m.%Y', '%Y'])) AS INTEGER)"},
        {"id": '"current_date"', "time": "$timestamp", "at": "to_timestamp(CAST(ts AS DOUBLE))"},
        {"count": "CAST(epoch_us(CAST(ts AS TIMESTAMPTZ)) / 1000000 AS INTEGER)"},
    ],
)
def test_what_is_of_one_row_is_taken(changes: dict[str, str]) -> None:
    time = changes.pop("time", None) and "at"
    found = with_(time, **changes)
    if "epoch_us" in changes.get("count", ""):
        assert found == [
            "line 3, count: a value of type BIGINT would become DOUBLE by itself: write CAST(… AS DOUBLE), or TRY_CAST "
            "for what may not be one"
        ]
    else:
        assert found == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sum(CAST(a AS DOUBLE))", "sum is not taken: it is an aggregate, and each row is by itself"),
        ("row_number() OVER ()", "expected no window function: each row is by itself"),
        ("(SELECT 1)", "expected no sub-query: each row is by itself"),
        ("random()", "random is not taken: its answer does not depend on its arguments alone"),
        ("epoch(now())", "now is not taken: its answer does not depend on its arguments alone"),
        ("CAST(current_date AS DOUBLE)", "expected nothing that is of now or of a user, got current_date"),
        ("CAST(current_setting('threads') AS DOUBLE)", "current_setting is not taken: its answer does not depend"),
        ("length(read_text('/etc/passwd'))", "read_text is not taken: it gives a table, and may read files"),
        ("length(getenv('HOME'))", "unknown function getenv"),
        ("length(main.upper(a))", "unknown function main.upper"),
        ("length(replace(a, 'x', b))", "expected a literal for argument 3 of replace"),
        ("length(json_extract_string(a, '$..b'))", "expected a path without .. for json_extract_string"),
        ("length(json_extract_string(a, b))", "expected a pattern of json_extract_string that is not of the"),
        ("a LIKE b", "expected a pattern of ~~ that is not of the record"),
        ("list_transform([1], x -> x)", "expected no -> and no lambda"),
        ("a[b]", "expected a whole number or a quoted name in the brackets behind a path"),
        ("$other", "expected $key, $headers['name'] or $timestamp, got $other"),
        ("length($headers)", "expected $headers['name']"),
        ("amount + 1", "No function matches the given name and argument types '+(VARCHAR, INTEGER_LITERAL)'"),
        ("CASE WHEN a = 5 THEN 1 ELSE 0 END", "a value of type VARCHAR would become INTEGER by itself: write CAST"),
        (
            "TRY_CAST(a AS BIGINT) * 1e0",
            "a value of type BIGINT would become DOUBLE by itself: write CAST(… AS DOUBLE)",
        ),
        ("upper(a)", "expected DOUBLE for type float32, got VARCHAR"),
        ("a IN ('x')", "expected DOUBLE for type float32, got BOOLEAN"),
        ("[1.5]", "expected DOUBLE for type float32, got DECIMAL(2,1)[]"),
        ("strptime(a, '%Y')", "expected DOUBLE for type float32, got TIMESTAMP: AT TIME ZONE 'UTC' gives one with"),
    ],
)
def test_every_other_expression_is_named(text: str, told: str) -> None:
    [problem] = with_(amount=text)
    assert problem.startswith(f"line 2, amount: {told}")


def test_an_expression_that_does_not_fit_is_named_of_each_type() -> None:
    found = with_("at", count="CAST(a AS DOUBLE)", sizes="CAST(a AS DOUBLE)", member="upper(a)", at="CAST(a AS DATE)")
    assert [problem.partition(": ")[2].partition(", got")[0] for problem in found] == [
        "expected BIGINT for type int32",
        "expected DOUBLE[] for type float32 and shape [2]",
        "expected BOOLEAN for type bool",
        "expected a TIMESTAMP WITH TIME ZONE, a text in ISO 8601 or a number",
    ]


@pytest.mark.parametrize(
    ("select", "told"),
    [
        ("SELECT id AS id", ['line 1: syntax error at or near "SELECT": leave the word SELECT out']),
        ("id AS id,\n a b c", ['line 2: syntax error at or near "c"']),
        ("id AS id FROM 'file.csv'", ["expected values and their names alone, got FROM"]),
        ("DISTINCT id AS id", ["expected values and their names alone, got DISTINCT, ORDER BY or LIMIT"]),
        ("id AS id UNION SELECT 1", ["expected values and their names alone, got UNION, INTERSECT or EXCEPT"]),
        ("id AS id; SELECT 1 AS y", ["expected one list of values, got 2 statements"]),
        ("id AS id; DROP TABLE rows", ["expected one list of values, got another statement"]),
        (
            "*, upper(a)",
            [
                "line 1: expected a name behind AS",
                "line 1: expected the fields one by one, got *",
            ],
        ),
        (
            "id, amount, amount, a AS wrong",
            [
                "expected each name once, got 'amount' 2 times",
                "expected every field of the schema and stream.time, got none of the name count, sizes, member",
                "line 1, wrong: expected the name of a field of the schema or stream.time, got 'wrong'",
            ],
        ),
    ],
)
def test_what_is_not_the_list_of_a_schemas_fields_is_named(select: str, told: list[str]) -> None:
    assert problems(select) == told


def test_what_is_too_long_or_too_deep_is_refused() -> None:
    assert "65536" in problems("x" * 65_537)[0]
    assert problems("(" * 3_000 + "id" + ")" * 3_000 + " AS id") != []


def test_a_spec_without_a_select_is_what_it_was_and_one_with_it_is_another() -> None:
    plain, selected = load_pipeline(DOCUMENT), load_pipeline(document(", ".join(WHOLE)))
    assert b"select" not in plain.canonical_json()
    assert plain.digest != selected.digest
    assert plain.preparation != selected.preparation
    assert parse_canonical(selected.canonical_json()) == selected


def test_who_has_no_duckdb_is_told_which_extra_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert problems("id") == ["needs DuckDB: install the extra headrace-data[sql]"]
    assert load_pipeline(DOCUMENT).stream.select is None
