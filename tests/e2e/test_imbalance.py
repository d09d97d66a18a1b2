"""A rare class through all six services: counted, measured, chosen and answered by what accuracy is blind to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client import InferenceClient, RegistryClient
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

ROWS = 800
DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: claims}
stream:
  topic: claims
  schema:
    - {name: id, type: string, role: id}
    - {name: a, type: float32, role: feature}
    - {name: b, type: float32, role: feature}
    - {name: kind, type: string, role: label}
prepare:
  split: {train: 0.5, validation: 0.25, test: 0.25}
  freeze: {afterRecords: 800}
  hold: {}
train:
  network: {kind: mlp, hidden: [8]}
  optimizer: {kind: adam, learningRate: 0.01}
  epochs: 8
  positive: fraud
  threshold: {costs: {missed: 20, falseAlarm: 1}}
compress:
  gates: {measure: pr_auc, limits: {recall: 0.3}}
"""


def send(platform: Platform, first: int, unit: float = 1.0) -> None:
    """Send so many claims, of which one in twenty is a fraud; `b` is in a unit."""
    generator = np.random.default_rng(first)
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for at in range(first, first + ROWS):
        hit = at % 20 == 0
        a, b = (generator.normal(size=2) + 1.5 * hit).tolist()
        record = {"id": f"c{at}", "a": a, "b": unit * b, "kind": "fraud" if hit else "ok"}
        producer.send("claims", json.dumps(record).encode())
    producer.flush()
    producer.close()


def test_a_rare_class_is_found_and_the_champion_chosen_by_it(
    platform: Platform,
    headrace: Callable[..., Any],
    registry: RegistryClient,
    inference: InferenceClient,
    until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(DOCUMENT.replace("  freeze:", "  minClassRows: 100\n  leak: stop\n  freeze:"))
    applied = headrace("apply", str(file), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    send(platform, 0)
    # The dataset is there when it is due. Nothing is trained on it, and everybody says why.
    refused = headrace("wait", "claims", "--timeout", "120s")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "expected at least 100 rows of each class in each split, got" in refused.stderr
    (dataset,) = json.loads(headrace("get", "datasets", "claims", "--json").stdout)
    assert (dataset["rarest"]["label"], dataset["leaks"]) == ("fraud", {"exact": 0, "near": 0, "examples": []})
    assert (registry.runs("claims"), sum(dataset["rows"].values())) == ([], ROWS)
    assert f"got {dataset['rarest']['rows']} of 'fraud' in" in headrace("status", "--json").stdout
    file.write_text(DOCUMENT)
    taken = headrace("apply", str(file))
    assert "the newest one is trained on if it is so" in taken.stdout, taken.stderr
    waited = headrace("wait", "claims", "--timeout", "120s", "--json")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    first = json.loads(waited.stdout)["version"]

    assert (first["task"], first["measure"]) == ("classification", "pr_auc")
    assert first["metrics"]["pr_auc"] > first["metrics"]["baseline_pr_auc"]
    assert ("fp32", "recall") in {(gate["variant"], gate["gate"]) for gate in first["gates"]}
    shown = headrace("get", "versions", "claims").stdout
    assert all(word in shown for word in ("pr_auc", "recall", "roc_auc", "baseline"))

    # What is half as likely as not is a fraud all the same: that is what the threshold says.
    grid = np.linspace(-3, 4, 200, dtype=np.float32)
    answers = inference.infer("claims", {"a": grid, "b": grid}).outputs
    doubtful = (answers["label"] == "fraud") & (answers["probabilities"][:, 0] < 0.5)
    assert doubtful.any()
    assert (np.diff((answers["label"] == "fraud").astype(int)) >= 0).all()

    send(platform, ROWS)
    judged = (messages.VERSION_STATE_RELEASED, messages.VERSION_STATE_REFUSED)

    def second() -> messages.Version | None:
        return next((each for each in registry.versions("claims") if each.ordinal == 2 and each.state in judged), None)

    version = until("the second version is judged", second)
    if version.state == messages.VERSION_STATE_REFUSED:
        assert "worse than the champion on the same rows: pr_auc" in version.reason
    broken_rows_are_held(platform, headrace, registry, until, version.trained.dataset_id)


def broken_rows_are_held(
    platform: Platform,
    headrace: Callable[..., Any],
    registry: RegistryClient,
    until: Callable[..., Any],
    newest: str,
) -> None:
    """The producer sends another unit: nothing learns of it, and the champion stays."""
    champion = registry.releases("claims")[-1]
    send(platform, 2 * ROWS, unit=1_000)
    (held,) = until("the segment is held", lambda: registry.held("claims"))
    assert "field 'b': the scale was 1." in held.reason
    assert [trouble.subject for trouble in registry.troubles() if trouble.pipeline == "claims"]
    late = headrace("wait", "claims", "--after", newest, "--timeout", "30s")
    assert late.returncode == 1, late.stdout + late.stderr
    assert "is held, and its 800 rows are part of no dataset" in late.stderr
    source = held.segment.sources[0]
    dropped = headrace("hold", "drop", "claims")
    assert "was dropped: its 800 rows are part of no dataset" in dropped.stdout, dropped.stderr
    (fate,) = json.loads(headrace("where", f"claims:{source.partition}:{source.start}", "--json").stdout)
    assert fate["fate"] == "dropped"
    assert not [trouble for trouble in registry.troubles() if trouble.pipeline == "claims"]
    assert registry.releases("claims")[-1] == champion
    assert [each.ordinal for each in registry.versions("claims")] == [1, 2]
