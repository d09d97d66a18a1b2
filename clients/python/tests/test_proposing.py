"""What would accept rejected records: proposals that are tried, beside the pipelines that they lead to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace_client.proposing import Proposal, grouped, proposal, together
from headrace_client.yaml_texts import document
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: p}
stream:
  topic: p
  schema:
    - {name: id, type: string, role: id}
    - {name: amount, type: float64, role: feature}
    - {name: age, type: int16, role: feature, range: [0, 120]}
    - {name: city, type: string, role: feature}
    - {name: open, type: bool, role: feature}
    - {name: pair, type: float32, shape: [2], role: feature}
    - {name: note, type: string, role: feature, nullable: true}
    - {name: y, type: int64, role: label}
prepare:
  clean: CLEAN
  transform: {city: {encode: onehot}, note: {encode: hash, impute: {constant: none}}}
train: {network: {kind: mlp}}
"""
GOOD = {"id": "a", "amount": 1.5, "age": 3, "city": "x", "open": True, "pair": [1, 2], "note": "n", "y": 1}


def rejected(*changes: dict[str, Any], clean: str = "{}") -> tuple[dict[str, Any], list[messages.DeadLetter]]:
    """Return the spec, and the letters that ingestion makes of records that differ from a good one."""
    pipeline = load_pipeline(DOCUMENT.replace("CLEAN", clean))
    records = [{name: value for name, value in (GOOD | each).items() if value is not ...} for each in changes]
    values = [json.dumps(record).encode() for record in records]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    letters = [
        messages.DeadLetter(
            id=f"0:{each.position}",
            stage="ingestion",
            rule=each.rule,
            field=each.field,
            reason=each.reason,
            value=values[each.position],
        )
        for each in checked.rejected
    ]
    return pipeline.plain(), letters


def proposed(*changes: dict[str, Any], clean: str = "{}") -> Proposal | None:
    spec, letters = rejected(*changes, clean=clean)
    assert len(letters) == len(changes)
    (group,) = grouped(letters)
    assert group.letters == len(changes)
    return proposal(group, spec)


def test_letters_are_grouped_by_stage_rule_and_field_the_most_first() -> None:
    spec, letters = rejected({"age": "x"}, {"amount": None}, {"age": [1]}, {"amount": "y"})
    found = [(group.rule, group.field, group.letters, group.example.id) for group in grouped(letters)]
    assert found == [("type", "age", 2, "0:0"), ("missing", "amount", 1, "0:1"), ("type", "amount", 1, "0:3")]
    assert all(proposal(group, spec) is None for group in grouped([*letters[:1], *letters[2:]]))


@pytest.mark.parametrize(
    ("changes", "clean", "told"),
    [
        (
            [{"amount": None}, {"amount": ...}],
            "{}",
            [
                "stream.schema.amount.nullable: true",
                "prepare.transform.amount.impute: median",
                "prepare.clean.missing: {any: [note]}",
            ],
        ),
        (
            [{"city": ""}],
            "{missing: keep}",
            ["stream.schema.city.nullable: true", "prepare.transform.city.impute: {constant: unknown}"],
        ),
        ([{"age": 1.5}, {"age": 2}], "{}", None),
        ([{"age": 1.5}], "{}", ["stream.schema.age.type: float64"]),
        ([{"age": 2**15}], "{outOfRange: keep}", ["stream.schema.age.type: int64"]),
        ([{"pair": [1, 2, 3]}, {"pair": [4, 5, 6]}], "{}", ["stream.schema.pair.shape: [3]"]),
    ],
)
def test_a_change_is_told_that_accepts_them(changes: list[dict[str, Any]], clean: str, told: list[str] | None) -> None:
    if told is None:
        assert len(rejected(*changes, clean=clean)[1]) < len(changes)
        return
    gaps = sum(change == {"amount": None} or ... in change.values() for change in changes)
    assert proposed(*changes, clean=clean) == Proposal(tuple(told), len(changes), len(changes), gaps)


@pytest.mark.parametrize(
    "changes",
    [
        [{"y": None}],  # what is to be learned is not filled in
        [{"id": None}],
        [{"pair": [1, 2, 3]}, {"pair": [1]}],
        [{"amount": {"value": 3}}],
        [{"amount": "twelve"}],
        [{"amount": "1,234"}],  # a thousand, or one and a bit
        [{"amount": "1,5"}, {"amount": "1.234"}],
        [{"amount": "1.234,5"}, {"amount": "1.234"}],
        [{"amount": "1.2K"}, {"amount": "3K"}],  # beside 900, which was sound
        [{"amount": "12%"}],
    ],
)
def test_nothing_is_told_where_no_change_is_plain(changes: list[dict[str, Any]]) -> None:
    assert proposed(*changes) is None


@pytest.mark.parametrize(
    ("field", "texts", "told"),
    [
        ("amount", ["1.5", "-2e3"], "TRY_CAST(amount AS DOUBLE) AS amount"),
        ("amount", ["1,5", "12", "1.25"], "TRY_CAST(replace(amount, ',', '.') AS DOUBLE) AS amount"),
        ("amount", ["1,234.5", "1,000"], "TRY_CAST(replace(amount, ',', '') AS DOUBLE) AS amount"),
        # What was sound before stays so: a dot among plain numbers divides no thousands.
        (
            "amount",
            ["1.234,5", "2,5", "7.25"],
            "TRY_CAST(CASE WHEN contains(amount, ',') THEN replace(replace(amount, '.', ''), ',', '.') ELSE amount END "
            "AS DOUBLE) AS amount",
        ),
        ("amount", ["$1,234.50", "7"], "TRY_CAST(replace(replace(amount, '$', ''), ',', '') AS DOUBLE) AS amount"),
        ("age", ["12 "], "TRY_CAST(regexp_extract(age, '^ *([+-]?[0-9]+)([.]0*)? *$', 1) AS BIGINT) AS age"),
        ("city", [12, 1.5], "CAST(city AS VARCHAR) AS city"),
        (
            "open",
            ["Yes ", "no", 1],
            "CASE WHEN lower(trim(open)) IN ('yes', 'true', '1') THEN true "
            "WHEN lower(trim(open)) IN ('no', 'false', '0') THEN false END AS open",
        ),
    ],
)
def test_values_of_another_type_are_read_by_an_expression(field: str, texts: list[Any], told: str) -> None:
    found = proposed(*({field: text} for text in texts))
    assert found is not None
    assert found.changes == (f"stream.select: {told}",)
    assert found.accepts in (None, len(texts))  # where records are not computed here, nothing is tried


def test_words_for_nothing_become_gaps_that_are_filled() -> None:
    found = proposed(*({"amount": text} for text in ("", "NA", "n/a", "3,5")))
    assert found is not None
    assert found.changes == (
        "stream.schema.amount.nullable: true",
        "prepare.transform.amount.impute: median",
        "prepare.clean.missing: {any: [note]}",
        "stream.select: TRY_CAST(replace(amount, ',', '.') AS DOUBLE) AS amount",
    )


def test_texts_that_are_no_numbers_are_told_as_gaps_or_are_too_many() -> None:
    found = proposed(*({"amount": text} for text in ("3,5", "4,5", "five", "n/a")))
    assert found is not None
    assert (found.accepts, found.gaps) in ((4, 2), (None, 0))
    assert proposed(*({"amount": text} for text in ("3,5", "low", "high"))) is None
    # A fraction is none of int64, and rows of before hold what float64 does not.
    spec, letters = rejected({"y": 1.5}, {"age": "1,5"})
    assert [proposal(group, spec) and proposal(group, spec).changes[0] for group in grouped(letters)] == [
        None,
        "stream.schema.age.type: float64",
    ]


def test_all_changes_together_make_a_document_that_takes_all_of_it() -> None:
    changes: list[dict[str, Any]] = [
        *({"amount": text} for text in ("1.234,5", "n/a")),
        {"city": ""},
        {"open": "Ja"},
        {"age": 130},
        {"note": 7},
        {"y": None},
    ]
    spec, letters = rejected(*changes)
    found = together(grouped(letters), spec)
    assert found is not None
    pipeline = load_pipeline(document(found))
    assert pipeline.plain() == found
    values = [letter.value for letter in letters]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    assert [(each.rule, each.field) for each in checked.rejected] == [("missing", "y")]
    rows = checked.batch.to_pylist()
    assert [row["amount"] for row in rows[:3]] == [1234.5, None, 1.5]
    assert (rows[3]["open"], rows[2]["city"], rows[-1]["note"]) == (1, "", "7")
    # A field that the SELECT takes as it is may be computed, too; one that is computed is left to its author.
    spec["stream"]["select"] = f"{found['stream']['select']}"
    (again, *_) = grouped(letters)
    assert proposal(again, spec) is None
    spec["stream"]["select"] = ", ".join(f"a.{name} AS {name}" for name in GOOD)
    letters[0].value = json.dumps({"a": GOOD | {"amount": "2,5"}}).encode()
    (group,) = grouped(letters[:1])
    told = proposal(group, spec)
    assert told is not None
    assert told.changes == ("stream.select: TRY_CAST(replace(a.amount, ',', '.') AS DOUBLE) AS amount",)
    assert told.accepts == 1


def cleaned(rule: str, name: str, reason: str, **record: Any) -> messages.DeadLetter:
    value = json.dumps(GOOD | record).encode()
    return messages.DeadLetter(id="1:2", stage="preprocessing", rule=rule, field=name, reason=reason, value=value)


def test_what_a_cleaning_rule_dropped_is_kept_by_another() -> None:
    spec, _ = rejected(clean="{personal: {fields: [note], email: reject}}")
    letters = [
        cleaned("outOfRange", "age", "age: expected 0 to 120, got 130", age=130),
        cleaned("outOfRange", "age", "age: expected 0 to 120, got -1", age=-1),
        cleaned("missing", "note", "note: expected a value, got none", note=None),
        cleaned("duplicates", "id", "id: expected a new key, got one that is among the last 9"),
        cleaned("personal", "note", "note: expected no personal data of kind email, got some"),
        cleaned("crash", "", "the process ended"),
    ]
    assert [proposal(group, spec) for group in grouped(letters)] == [
        Proposal(("stream.schema.age.range: [-1, 130]",), 2, 2),
        Proposal(("prepare.clean.missing: keep",), 1, 1, 1),
        Proposal(("prepare.clean.duplicates: keep",), None, 0),
        Proposal(("prepare.clean.personal.email: mask",), None, 0),
        None,
    ]


def test_of_records_that_are_withheld_nothing_is_tried() -> None:
    spec, (letter,) = rejected({"amount": ...})
    spec["stream"]["personal"] = {"key": "people", "fields": {"id": "hash"}}
    letter.withheld, letter.value = True, b"{}"
    (group,) = grouped([letter])
    told = proposal(group, spec)
    assert told is not None
    assert (told.accepts, told.tried) == (None, 0)
    assert "stream.schema.amount.nullable: true" in told.changes
    letter.withheld, letter.value = False, json.dumps(GOOD | {"amount": None}).encode()
    (group,) = grouped([letter])
    assert proposal(group, spec) == Proposal(told.changes, 1, 1, 1)


@pytest.mark.parametrize("rule", ["missing", "type", "shape", "overflow", "outOfRange", "schema", "avro"])
@pytest.mark.parametrize("told", ["csv", {"kind": "avro", "registry": {"url": "http://schemas"}}])
def test_records_in_other_formats_are_tried_where_they_can_be_read(told: Any, rule: str) -> None:
    spec, _ = rejected()
    spec["stream"]["format"] = told
    reason = "amount: expected a value of type float64, got none"
    values = (b"\0\0\0\0\7\x02a", b"1;2", b"", b"\xff")
    letters = [
        messages.DeadLetter(id=f"0:{at}", stage="ingestion", rule=rule, field="amount", reason=reason, value=value)
        for at, value in enumerate(values)
    ]
    (group,) = grouped(letters)
    found = proposal(group, spec)
    assert found is None or (found.accepts is None and told != "csv")


def test_a_row_is_tried_as_one_whatever_the_producers_write() -> None:
    spec, _ = rejected()
    spec["stream"]["format"] = {"kind": "avro", "registry": {"url": "http://schemas"}}
    (group,) = grouped([cleaned("outOfRange", "age", "age: expected 0 to 120, got 130", age=130)])
    assert proposal(group, spec) == Proposal(("stream.schema.age.range: [0, 130]",), 1, 1)
