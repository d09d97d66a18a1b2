"""Which datasets are trained on, as a document says it."""

import pytest
from headrace_data.errors import SpecInvalid
from headrace_data.spec import Triggers, load_pipeline, parse_canonical

MINIMAL = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: small}}
stream:
  topic: small
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: int8, role: label}}
train: {{network: {{kind: mlp}}{when}}}
"""


def test_always_is_what_specs_of_before_say_and_changes_no_digest() -> None:
    said = load_pipeline(MINIMAL.format(when=", when: always"))
    assert said.digest == load_pipeline(MINIMAL.format(when="")).digest
    assert "when" not in said.train.plain()


def test_triggers_are_read_and_come_back() -> None:
    pipeline = load_pipeline(MINIMAL.format(when=", when: {worse: 0.02, drift: 0.2, age: 7d, rows: 10000}"))
    when = pipeline.train.when
    assert when == Triggers(worse=0.02, drift=0.2, age="7d", rows=10000)  # type: ignore[arg-type]
    assert isinstance(when, Triggers)
    assert when.age == 7 * 86_400
    assert parse_canonical(pipeline.canonical_json()) == pipeline


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("{}", "expected worse, drift, age, rows or several of them, got none"),
        ("never", r"expected always, or some of \{worse: 0.02, drift: 0.2, age: 7d, rows: 10000\}"),
        ("{worse: 0}", "train.when.worse: expected greater than 0, got 0"),
        ("{age: 7}", "train.when.age: expected a duration"),
        ("{drft: 0.2}", "train.when.drft: unknown key; .*did you mean 'drift'"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(when: str, told: str) -> None:
    with pytest.raises(SpecInvalid, match=told):
        load_pipeline(MINIMAL.format(when=f", when: {when}"))
