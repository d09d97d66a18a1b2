"""A search through all six services, once with its trainer killed, and versions that learn on from one another."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client import RegistryClient
from headrace_runtime.object_store import Artifact, ObjectStore
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROWS = 400
TRIALS = 6
DOCUMENT = f"""\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: NAME}}
stream:
  topic: tides
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [4], role: feature}}
    - {{name: side, type: string, role: label}}
prepare:
  freeze: {{afterRecords: {ROWS}}}
train:
  network: {{kind: mlp, hidden: [16]}}
  optimizer: {{kind: adamw}}
  epochs: 20
  batchSize: 16
  from: champion
  compareWith: trees
  tune:
    trials: {TRIALS}
    pruner: none
    space:
      optimizer.learningRate: {{low: 0.0003, high: 0.03, log: true}}
      network.dropout: {{low: 0, high: 0.3}}
compress:
  gates: {{baseline: ignored}}
"""


def send(platform: Platform, first: int) -> None:
    """Send rows of two sides, which a bent line parts."""
    generator = np.random.default_rng(first)
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for at in range(first, first + ROWS):
        x = generator.normal(size=4)
        side = "left" if x[0] + x[1] * x[2] > 0.2 * x[3] else "right"
        producer.send("tides", json.dumps({"id": f"t{at}", "x": x.tolist(), "side": side}).encode())
    producer.flush()
    producer.close()


def held_against_each_other(headrace: Callable[..., Any]) -> None:
    """Hold both versions against each other on the rows of the day, of which they know all but the test split."""
    done = headrace("canary", "tides", "1", "--against", "2", "--last", "24h", "--json")
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert (told["ordinal"], told["champion_ordinal"], told["segments"]) == (1, 2, 2)
    assert (told["measures"][0]["name"], told["measure"]) == ("accuracy", "accuracy")
    assert 60 < told["rows"] < 180
    assert done.returncode == (told["verdict"] == "worse")


def test_a_killed_search_finds_the_same_and_the_next_version_begins_from_it(
    platform: Platform,
    headrace: Callable[..., Any],
    registry: RegistryClient,
    until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    def run(*arguments: str) -> str:
        done = headrace(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def apply(name: str) -> None:
        file = tmp_path / f"{name}.yaml"
        file.write_text(DOCUMENT.replace("NAME", name))
        run("apply", str(file), "--create-topic")

    def judged(name: str, ordinal: int) -> messages.Version:
        states = (messages.VERSION_STATE_RELEASED, messages.VERSION_STATE_REFUSED)
        return until(
            f"version {ordinal} of {name} is judged",
            lambda: next((v for v in registry.versions(name) if v.ordinal == ordinal and v.state in states), None),
            timeout_s=300,
        )

    apply("tides")
    send(platform, 0)
    first = judged("tides", 1)
    assert first.state == messages.VERSION_STATE_RELEASED, first.reason
    assert len(first.trained.trials) == TRIALS
    assert sum(trial.chosen for trial in first.trained.trials) == 1

    # The same rows and settings under another name, and a trainer that is killed between the trials.
    apply("tides-killed")
    (told,) = until("a trial has ended", lambda: [r for r in registry.runs("tides-killed") if r.progress.step >= 1])
    assert told.progress.step < TRIALS, "the search was over before it could be killed"
    platform.signal("trainer", signal.SIGKILL)
    killed = judged("tides-killed", 1)
    assert (first.trained.attempt, killed.trained.attempt) == (1, 2)
    assert killed.trained.dataset_id == first.trained.dataset_id
    assert killed.trained.weights.digest == first.trained.weights.digest
    assert list(killed.trained.trials) == list(first.trained.trials)

    send(platform, ROWS)
    second = judged("tides", 2)
    lineage = json.loads(run("lineage", second.trained.version_id, "--json"))
    assert lineage["origin"]["version_id"] == lineage["runs"][0]["origin"] == first.trained.version_id
    assert "tides version 1, begun from" in run("lineage", second.trained.version_id)
    manifest = second.trained.manifest
    store = ObjectStore(platform.connections.store_url)
    kept = json.loads(store.get(Artifact(manifest.uri, manifest.digest, manifest.size_bytes)))
    assert kept["from"]["layers"]["taken"] == ["0", "3"]
    assert {"tuned", "from"} <= kept.keys()

    assert second.trained.metrics["trees_accuracy"] > 0.7
    page = tmp_path / "page.html"
    run("report", "tides:2", "--output", str(page))
    assert "of trees of default size on the same rows" in page.read_text()
    held_against_each_other(headrace)
