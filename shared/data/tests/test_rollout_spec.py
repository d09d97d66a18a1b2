"""What `serve.rollout` may say, and what it means."""

from __future__ import annotations

from typing import Any

import pytest
from headrace_data.spec import RolloutStep, SpecInvalid, load_pipeline

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: digits}}
stream:
  topic: digits
  schema:
    - {{name: key, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: int64, role: label, range: [0, 9]}}
prepare: {{}}
train: {{network: {{kind: mlp, hidden: [4]}}}}
serve: {serve}
"""


def load(serve: str) -> Any:
    return load_pipeline(DOCUMENT.format(serve=serve))


def test_without_a_rollout_a_spec_is_what_it_was() -> None:
    plain = load("{}")
    assert plain.serve.rollout is None
    assert b"rollout" not in plain.canonical_json()
    assert load("{rollout: {}}").digest != plain.digest


def test_the_last_share_is_the_champion() -> None:
    rollout = load("{rollout: {shadow: 1h, canary: [1, 10, 100], every: 5m}}").serve.rollout
    assert rollout.steps == (RolloutStep(0, 3600.0), RolloutStep(1, 300.0), RolloutStep(10, 300.0))
    assert [step.share for step in load("{rollout: {}}").serve.rollout.steps] == [1, 10, 50]
    assert load("{rollout: {shadow: 1s, canary: [100]}}").serve.rollout.steps == (RolloutStep(0, 1.0),)


@pytest.mark.parametrize(
    ("rollout", "told"),
    [
        ("{canary: [10, 1, 100]}", "rising shares"),
        ("{canary: [1, 10]}", "the last of them 100"),
        ("{canary: [100]}", "expected a share below 100"),
        ("{canary: [0, 100]}", "greater than or equal to 1"),
        ("{every: 8d}", "within: expected longer than the longest step, 691200 s"),
        ("{alike: 0.9}", "without a time in the shadow"),
        ("{worse: 0.02}", "serve.quality: true beside it"),
        ("{calls: 0}", "calls"),
        ("{latency: 1}", "latency"),
    ],
)
def test_a_wrong_rollout_is_refused_with_its_place(rollout: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load(f"{{rollout: {rollout}}}")
    (problem,) = refused.value.problems
    assert "serve.rollout" in str(problem)
    assert told in str(problem)


def test_models_of_other_servers_are_not_rolled_out() -> None:
    with pytest.raises(SpecInvalid, match=r"expected none beside serve\.engine"):
        load("{rollout: {}, engine: {kind: upstream, urls: ['http://a:1'], model: 'm-{version}'}}")
