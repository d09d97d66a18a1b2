from __future__ import annotations

import json
from pathlib import Path

import pytest
from headrace_runtime import provision
from headrace_runtime.errors import InvalidInput
from headrace_runtime.topic_plan import TopicPlan
from headrace_runtime.topics import CONTROL_TOPICS, REGISTRY_LOG


def as_json(plan: TopicPlan) -> bytes:
    return plan.model_dump_json(by_alias=True).encode()


def test_a_plan_survives_its_journey() -> None:
    assert TopicPlan.parse(as_json(TopicPlan.production())) == TopicPlan.production()


def test_plans_hold_every_control_topic() -> None:
    names = [topic.name for topic in CONTROL_TOPICS]
    assert list(TopicPlan.embedded().topics) == list(TopicPlan.production().topics) == names
    sizes = {topic.name: (topic.partitions, topic.production_partitions) for topic in CONTROL_TOPICS}
    for name, (small, large) in sizes.items():
        assert TopicPlan.embedded().topics[name].partitions == small
        assert TopicPlan.production().topics[name].partitions == large


def test_a_plan_that_lacks_a_topic_is_of_another_version() -> None:
    known = json.loads(as_json(TopicPlan.production()))
    del known["topics"][REGISTRY_LOG.name]
    with pytest.raises(InvalidInput, match=r"headrace\.registry\.log\.v1 is missing; are chart"):
        TopicPlan.parse(json.dumps(known).encode())


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"{", "Invalid JSON"),
        (b'{"topics": {"t": {"partitions": 0}}}', "topics.t.partitions: Input should be greater than or equal to 1"),
        (b'{"topics": {"t": {"partitons": 1}}}', "topics.t.partitons: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_plan_is_refused_by_what_is_wrong(document: bytes, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        TopicPlan.parse(document)
    assert problem in str(caught.value)


def test_a_plan_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["provision", str(tmp_path / "plan.json")])
    assert provision.main() == 1
    assert "plan.json: No such file or directory" in capsys.readouterr().err
