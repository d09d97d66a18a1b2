"""What `serve.scoring` may say, and what it means."""

from __future__ import annotations

from typing import Any

import pytest
from headrace_data.spec import SpecInvalid, load_pipeline

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: digits}}
stream:
  topic: digits
  references: {references}
  format: {{kind: json, lines: {lines}}}
  labels: {{topic: labels}}
  schema:
    - {{name: key, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: int64, role: label, range: [0, 9]}}
prepare: {{}}
train: {{task: {task}, network: {{kind: mlp, hidden: [4]}}}}
serve: {serve}
"""


def load(serve: str, references: str = "null", task: str = "classification", lines: str = "false") -> Any:
    return load_pipeline(DOCUMENT.format(serve=serve, references=references, task=task, lines=lines))


def test_records_may_refer_to_what_lies_in_the_store() -> None:
    assert load("{scoring: {}}", references="[pictures]").scored == "digits"


def test_without_scoring_a_spec_is_what_it_was() -> None:
    plain = load("{}")
    assert (plain.scored, plain.topics) == (None, ("digits", "labels"))
    assert b"scoring" not in plain.canonical_json()
    assert load("{scoring: {}}").digest != plain.digest


def test_the_records_are_those_of_the_producers_or_of_a_topic_of_their_own() -> None:
    own, other = load("{scoring: {}}"), load("{scoring: {topic: asked, start: earliest}}")
    assert (own.scored, own.topics, own.serve.scoring.start) == ("digits", ("digits", "labels"), "latest")
    assert (other.scored, other.topics, other.serve.scoring.start) == (
        "asked",
        ("digits", "labels", "asked"),
        "earliest",
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"serve": "{scoring: {topic: headrace.records.digits.scored.v1}}"}, "belong to the platform"),
        ({"serve": "{scoring: {start: end}}"}, "serve.scoring.start"),
        (
            {"serve": "{scoring: {}}", "references": "[levels]", "lines": "true"},
            "expected none where records refer to values of many lines",
        ),
        ({"serve": "{scoring: {}}", "task": "generation"}, "expected none for a task generation"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_place(more: dict[str, str], told: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load(**more)
    assert told in str(refused.value)
