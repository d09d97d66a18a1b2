"""What a draft says of samples that are not quite sound: repeated ids, texts nearly alike, blanks, absurd numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from headrace_client.drafting import draft_pipeline
from headrace_data.spec import Field, Pipeline, load_pipeline


def encoded(records: list[Any]) -> list[bytes | None]:
    return [json.dumps(record).encode() for record in records]


def drafted(records: list[Any]) -> Pipeline:
    return load_pipeline(draft_pipeline("penguins", encoded(records)).text)


def field(pipeline: Pipeline, name: str) -> Field:
    return pipeline.stream.field(name)


@pytest.mark.parametrize(("name", "every"), [("id", 20), ("id", 2), ("uuid", 3), ("event_id", 3), ("order_id", 20)])
@pytest.mark.parametrize("rows", [400, 4000])
def test_a_field_named_like_an_id_stays_one_though_many_repeat(name: str, every: int, rows: int) -> None:
    records = [{name: f"r{row - (row % every == 0)}", "x": row / 7, "label": "ab"[row % 2]} for row in range(rows)]

    draft = draft_pipeline("penguins", encoded(records))
    pipeline = load_pipeline(draft.text)

    repeats = len(records) - len({record[name] for record in records})
    assert (pipeline.stream.key, pipeline.prepare.clean.duplicates) == (name, "drop")
    assert field(pipeline, name).role == "id"
    assert draft.roles.id is not None
    assert draft.roles.id.field.repeated == repeats > 0.02 * rows
    assert f"named like an id; {repeats} of {rows} records repeat one" in draft.text


def test_a_name_of_something_else_is_no_id_and_that_duplicates_stay_is_said() -> None:
    records = [{"user_id": row // 2, "x": row / 7, "label": "ab"[row % 2]} for row in range(400)]
    text = draft_pipeline("penguins", encoded(records)).text
    assert load_pipeline(text).stream.field("user_id").role == "group"
    assert "no field names a record: one that was sent twice is kept twice" in text


def test_texts_that_are_nearly_alike_are_pointed_out() -> None:
    labels = ["yes", "no", "Yes ", "y es"]
    records = [{"id": f"r{row}", "x": row / 7, "label": labels[row % 4]} for row in range(400)]
    text = draft_pipeline("penguins", encoded(records)).text
    assert "differ by blanks, case or hidden characters only: 'yes', 'Yes ' and 'y es'" in text


@pytest.mark.parametrize(("rows", "role"), [(400, "feature"), (100, None)])
def test_one_absurd_number_of_many_is_the_record_s_fault(rows: int, role: str | None) -> None:
    records = [
        {"id": f"r{row}", "x": 1e300 if row == 3 else row / 7, "y": row / 3, "label": "ab"[row % 2]}
        for row in range(rows)
    ]
    draft = draft_pipeline("penguins", encoded(records))
    roles = {one.field.name: one.role for one in draft.roles.placed}
    assert roles.get("x") == role
    assert draft.rejected == ({"overflow": 1} if role else {})
    assert role or "left out: x: numbers beyond 1e+250 in size" in draft.text


def test_blank_texts_are_missing() -> None:
    records = [{"id": f"r{row}", "c": ["a", "b", " "][row % 3], "label": "ab"[row % 2]} for row in range(90)]
    assert field(drafted(records), "c").nullable


@pytest.mark.parametrize(
    ("offset", "spread", "element"),
    [(0, 1, "float32"), (0.5, 1e-9, "float64"), (1e6, 1e-3, "float64"), (1e4, 100, "float32"), (1.7e9, 30, "float64")],
)
def test_a_float_is_as_wide_as_its_differences_need(offset: float, spread: float, element: str) -> None:
    records = [{"id": f"r{row}", "x": offset + spread * row / 7, "label": "ab"[row % 2]} for row in range(100)]
    assert field(drafted(records), "x").type == element


@pytest.mark.parametrize(("values", "positive"), [((False, True), True), (("ok", "fraud"), "fraud"), ((7, 3), 3)])
def test_versions_of_a_rare_label_are_compared_by_what_is_not_blind_to_it(values, positive) -> None:
    records = [{"id": f"r{number}", "x": number, "class": values[number % 20 == 0]} for number in range(200)]
    text = draft_pipeline("claims", encoded(records)).text
    pipeline = load_pipeline(text)
    assert (pipeline.compress.gates.measure, pipeline.train.positive) == ("pr_auc", positive)
    assert "5.0% of the records" in text
    assert all(len(line) <= 120 for line in text.splitlines())
    even = [{"id": f"r{number}", "x": number, "class": values[number % 9 == 0]} for number in range(200)]
    assert drafted(even).compress.gates.measure is None
    assert drafted(even).train.positive is None
