"""Topics are made as planned, once, and what exists is left as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from headrace_runtime.kafka import Admin
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topic_plan import PlannedTopic, TopicPlan
from headrace_runtime.topics import MODEL_RELEASED, PREDICTION_SERVED

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract


def run(plan: Path, servers: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace_runtime.provision", str(plan), *options],
        env={"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": servers},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_plan_is_carried_out_once(broker: Platform, tmp_path: Path) -> None:
    # The broker has the control topics at the embedded platform's size already.
    extra = PlannedTopic(partitions=4, replication_factor=1, config={"retention.ms": "60000"})
    plan = TopicPlan(topics={**TopicPlan.production().topics, "test.provisioned": extra})
    file = tmp_path / "plan.json"
    file.write_text(plan.model_dump_json(by_alias=True))

    first, second = run(file, broker.bootstrap_servers), run(file, broker.bootstrap_servers)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "test.provisioned: made with 4 partitions" in first.stdout
    different = f"{PREDICTION_SERVED.name}: exists and is left as it is; partitions is 3, planned 12"
    for said in (first.stdout, second.stdout):
        assert different in said
        assert f"{MODEL_RELEASED.name}:" not in said  # as planned
        assert f"{len(plan.topics)} topics exist" in said
    assert "made with" not in second.stdout
    with Admin(KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers), "test") as admin:
        assert admin.partitions_of("test.provisioned") == 4
        assert admin.topic_config("test.provisioned")["retention.ms"] == "60000"


def test_the_topics_of_one_installation_are_refused_to_another(broker: Platform, tmp_path: Path) -> None:
    extra = PlannedTopic(partitions=1, replication_factor=1)
    file = tmp_path / "plan.json"

    def install(owner: str, topic: str) -> subprocess.CompletedProcess[str]:
        plan = TopicPlan(topics={**TopicPlan.production().topics, topic: extra})
        file.write_text(plan.model_dump_json(by_alias=True))
        return run(file, broker.bootstrap_servers, "--owner", owner)

    first, again = install("shop/blue", "test.of-the-first"), install("shop/blue", "test.of-the-first")
    second = install("shop/green", "test.of-the-second")

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert second.returncode == 1
    assert "belong to the installation 'shop/blue', and this is 'shop/green'" in second.stderr
    assert "kafka.topics.owner: shop/blue" in second.stderr
    with Admin(KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers), "test") as admin:
        assert admin.partitions_of("test.of-the-first") == 1
        assert admin.partitions_of("test.of-the-second") == 0, "nothing is made for whoever is refused"
