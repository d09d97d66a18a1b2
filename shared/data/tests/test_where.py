"""Conditions over the fields of a row: what they drop, beside Python, and what is none."""

import itertools
import json
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from headrace_data.cleaning import broken, clean, squared_fields
from headrace_data.errors import SpecInvalid
from headrace_data.records import RecordChecker
from headrace_data.seen_keys import SeenKeys
from headrace_data.select import conditions
from headrace_data.spec import Pipeline, load_pipeline, parse_canonical

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: held}
stream:
  topic: held
  schema:
    - {name: id, type: int64, role: id}
    - {name: low, type: float64, role: feature, nullable: true}
    - {name: High, type: int16, role: feature}
    - {name: open, type: bool, role: feature}
    - {name: t, type: string, role: feature, nullable: true}
    - {name: pair, type: float32, shape: [2], role: feature}
    - {name: y, type: int64, role: label}
prepare:
  clean: {missing: keep, where: WHERE}
  transform: {low: {impute: mean}, t: {encode: hash, impute: mostFrequent}}
train: {network: {kind: mlp}}
"""
VALUES: dict[str, list[Any]] = {"low": [None, 1.5, 7.0], "High": [2, 7], "open": [True, False]}
VALUES |= {"t": [None, "Ab"], "pair": [[1, 2], [4, 3]]}
EVERY = [dict(zip(VALUES, values, strict=True)) for values in itertools.product(*VALUES.values())]


def pipeline_of(*conditions: str) -> Pipeline:
    return load_pipeline(DOCUMENT.replace("WHERE", json.dumps(conditions)))


def rows(pipeline: Pipeline) -> pa.RecordBatch:
    values = [json.dumps({"id": row, "y": row % 2} | each).encode() for row, each in enumerate(EVERY)]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert checked.rejected == []
    return checked.batch


def left(pipeline: Pipeline) -> list[int]:
    ids: list[int] = clean(rows(pipeline), pipeline, SeenKeys(999)).batch.column("id").to_pylist()
    return ids


def ids_where(holds: Any) -> list[int]:
    return [row for row, each in enumerate(EVERY) if holds(each)]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('low <= "High"', lambda r: r["low"] is not None and r["low"] <= r["High"]),
        ("low IS NULL OR low < 3", lambda r: r["low"] is None or r["low"] < 3),
        ("open", lambda r: r["open"]),
        ("lower(t) = 'ab' AND NOT open", lambda r: r["t"] is not None and not r["open"]),
        ("pair[1] < pair[2] -- by place", lambda r: r["pair"][0] < r["pair"][1]),
        ("list_sum(pair) > 3.5", lambda r: sum(r["pair"]) > 3.5),
        ("High / 2 > 1.0", lambda r: r["High"] / 2 > 1),
        ("1 = 1", lambda _: True),
    ],
)
def test_rows_are_left_where_a_condition_is_true(condition: str, holds: Any) -> None:
    assert left(pipeline_of(condition)) == ids_where(holds)


def test_each_condition_has_its_reason_and_a_row_is_counted_once() -> None:
    pipeline = pipeline_of("low < 3", "High > 2", "t IS NOT NULL")
    cleaned = clean(rows(pipeline), pipeline, SeenKeys(999))
    assert cleaned.counts == {"where": len(EVERY) - len(cleaned.batch)}
    reasons = {each.reason for each in cleaned.dropped}
    assert reasons == {
        "expected low < 3, got low = None",
        "expected low < 3, got low = 7.0",
        "expected High > 2, got High = 2",
        "expected t IS NOT NULL, got something else",  # a text is not shown
    }
    assert left(pipeline) == ids_where(lambda r: r["low"] == 1.5 and r["High"] > 2 and r["t"])


@pytest.mark.parametrize("step", [1, 7, 999])
def test_rows_do_not_depend_on_batches_and_one_that_cannot_be_computed_is_dropped_alone(step: int) -> None:
    pipeline = pipeline_of("CAST(t AS INTEGER) IS NULL OR open", "1 // (High - 2) >= 0")
    batch = rows(pipeline)
    kept = []
    for start in range(0, len(batch), step):
        kept += clean(batch.slice(start, step), pipeline, SeenKeys(999)).batch.column("id").to_pylist()
    assert kept == ids_where(lambda r: r["t"] is None and r["High"] != 2)


def test_what_takes_too_long_is_dropped_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipeline_of("low > 0")
    batch = rows(pipeline)
    assert broken(batch, pipeline.stream.fields, pipeline.prepare.clean, squared_fields(pipeline))
    monkeypatch.setattr(conditions, "LIMIT_S", 1e-9)
    found = broken(batch, pipeline.stream.fields, pipeline.prepare.clean, squared_fields(pipeline))
    assert {each.rule for each in found.values()} == {"where"}
    monkeypatch.undo()
    assert left(pipeline) == ids_where(lambda r: r["low"] is not None)


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("low <", "prepare.clean.where[0]: line 2: syntax error"),
        ("low + 1", "prepare.clean.where[0]: expected a condition, got an expression of type double"),
        ("payload.low > 1", "expected fields of the schema (id, low, High, open, t, pair, y), got payload.low"),
        ("lo > 1", "got lo"),
        ("pair[3] > 1", "got pair[3]"),
        ("low[1] > 1", "got low[1]"),
        ("$key = 'a'", "got $key"),
        ("low < now()", "now is not taken"),
        ("sum(low) > 1", "sum is not taken: it is an aggregate"),
        ("low > (SELECT 1)", "expected no sub-query"),
        ("low > 1) AS kept, (1 > 2", "expected one condition, got 2"),
        ("low > 1; SELECT 2", "syntax error"),
        ("t > pair", "prepare.clean.where[0]"),
        ("repeat(t, 1000000000) = t", "repeat is not taken"),
        ("read_text('/etc/passwd') = t", "read_text is not taken"),
    ],
)
def test_what_is_no_condition_over_a_row_is_told_with_its_place(condition: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as problems:
        pipeline_of(condition)
    assert told in str(problems.value)
    with pytest.raises(SpecInvalid) as problems:
        pipeline_of("low > 1", condition)
    assert len(problems.value.problems) == 1
    assert "prepare.clean.where[1]" in str(problems.value)


def test_specs_without_conditions_keep_their_digests_and_with_some_they_come_back() -> None:
    assert b"where" not in pipeline_of().canonical_json()
    pipeline = pipeline_of("low > 1")
    assert parse_canonical(pipeline.canonical_json()) == pipeline
    assert pipeline.prepare_digest != pipeline_of().prepare_digest


def test_a_process_that_computed_ends_as_it_should() -> None:
    program = "from headrace_data.select.conditions import problems_of; print(problems_of(['1 <', '1 < 2'], []))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
