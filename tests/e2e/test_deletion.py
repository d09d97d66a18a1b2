"""A pipeline from its first record to its end, and another one of its name, on a platform that never restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from headrace_client import InferenceClient
from headrace_client.errors import NotFound
from headrace_runtime.kafka import Admin
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

NAME = "orchard"
ROWS = 300
PIPELINE = f"""
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {NAME}}}
stream:
  topic: {NAME}
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: size, type: float32, role: feature}}
    - {{name: ripe, type: bool, role: label}}
prepare:
  transform: {{size: {{scale: standard}}}}
  freeze: {{afterIdle: 1s}}
train:
  network: {{kind: mlp, hidden: [8]}}
  epochs: 40
compress: {{variants: []}}
"""
FRUIT = json.dumps({"size": 9.0})


@pytest.fixture
def command(headrace: Callable[..., Any]) -> Callable[..., Any]:
    """Run `headrace … --json` and return what it printed."""

    def run(*arguments: str, stdin: str = "") -> Any:
        done = headrace(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def released(platform: Platform, command: Callable[..., Any], tmp_path: Path) -> dict[str, Any]:
    """What `wait` said of the first release."""
    command("topic", "create", NAME, "--partitions", "2")
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for number in range(ROWS):
        record = {"id": f"f{number}", "size": number % 10, "ripe": number % 10 > 4}
        producer.send(NAME, json.dumps(record).encode(), partition=number % 2)
    producer.send(NAME, b"no fruit", partition=0)
    producer.flush()
    producer.close()
    return applied(command, tmp_path)


def applied(command: Callable[..., Any], folder: Path) -> dict[str, Any]:
    path = folder / "pipeline.yaml"
    path.write_text(PIPELINE)
    command("apply", str(path))
    waited: dict[str, Any] = command("wait", NAME, "--timeout", "150s")
    assert waited["served"]
    return waited


def record_topics(platform: Platform) -> list[str]:
    settings = KafkaSettings(kafka_bootstrap_servers=platform.bootstrap_servers)
    with Admin(settings, "test") as admin:
        return sorted(name for name in admin.topics() if name.startswith(f"headrace.records.{NAME}."))


def is_gone(inference: InferenceClient) -> bool:
    try:
        inference.metadata(NAME)
    except NotFound:
        return True
    return False


def test_a_deleted_pipeline_is_gone_and_another_of_its_name_begins_anew(
    platform: Platform,
    headrace: Callable[..., Any],
    command: Callable[..., Any],
    inference: InferenceClient,
    released: dict[str, Any],
    until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    (first,) = command("predict", NAME, stdin=FRUIT)
    topics = record_topics(platform)
    assert headrace("delete", "pipeline", NAME, stdin="n\n").returncode == 1
    assert not is_gone(inference)

    deleted = command("delete", "pipeline", NAME, "--yes")
    assert deleted["withdrawn"] == [{"model": NAME, "alias": "champion", "epoch": 1}]
    assert sorted(deleted["stays"]["topics"]) == topics == record_topics(platform)
    assert (deleted["stays"]["datasets"], deleted["stays"]["versions"]) == (1, 1)

    until("inference drops the model", lambda: is_gone(inference))
    refused = headrace("predict", NAME, stdin=FRUIT)
    assert refused.returncode == 1
    assert f"model '{NAME}' is not released" in refused.stderr
    until("its loops have stopped", lambda: headrace("dead", "list", NAME).returncode == 1)
    assert "was deleted" in headrace("freeze", NAME).stderr
    assert command("get", "versions", NAME) == []
    assert command("get", "versions", NAME, "--as-of", released["release"]["release_time"])[0]["ordinal"] == 1
    (fate,) = command("where", f"{NAME}:1:0")
    assert (fate["fate"], fate["deleted"], fate["dataset_id"]) == (
        "in_dataset",
        True,
        released["dataset"]["dataset_id"],
    )
    lineage = command("lineage", first["prediction_id"])
    assert lineage["dataset"]["dataset_id"] == released["dataset"]["dataset_id"]

    again = applied(command, tmp_path)
    # From the topic's beginning, with no offset and no key of before: the same rows, and thus the same dataset.
    assert again["dataset"]["dataset_id"] == released["dataset"]["dataset_id"]
    assert again["runs"][0]["run_id"] != released["runs"][0]["run_id"]
    assert (again["version"]["ordinal"], again["release"]["epoch"]) == (2, 2)
    assert [letter["rule"] for letter in command("dead", "list", NAME)] == ["json"]
    assert command("predict", NAME, stdin=FRUIT)[0]["label"] == first["label"]
    assert len(record_topics(platform)) == 2 * len(topics)

    unclear = headrace("delete", "pipeline", NAME, "--purge", "--yes")
    assert unclear.returncode == 1
    assert f"`headrace delete leftovers {NAME}` deletes these alone" in unclear.stderr
    left = command("delete", "leftovers", NAME)
    assert (sorted(left["purged"]["topics"]), left["in_force"]) == (topics, True)
    assert f"ingestion.{NAME}" in left["purged"]["groups"]
    assert command("predict", NAME, stdin=FRUIT)[0]["label"] == first["label"]

    purged = command("delete", "pipeline", NAME, "--purge", "--yes")
    assert record_topics(platform) == []
    assert len(purged["purged"]["topics"]) == len(topics)
    assert f"freeze.{NAME}.1" in purged["purged"]["groups"]
    assert headrace("status").returncode == 0
