"""A network of somebody's own, that of an example, through all six services: from records to a call's answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headrace_client import InferenceClient
from headrace_local.launcher import Platform
from kafka import KafkaProducer

pytestmark = pytest.mark.timeout(900)

ROWS, STEPS = 300, 24
DOCUMENT = f"""\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: waves}}
stream:
  topic: waves
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [{STEPS}, 1], role: feature}}
    - {{name: wave, type: string, role: label}}
prepare:
  transform: {{x: {{scale: none}}}}
  freeze: {{afterRecords: {ROWS}}}
train:
  network: {{kind: python, factory: "FACTORY", arguments: {{channels: 8}}}}
  augment: {{timeShift: 3}}
  optimizer: {{learningRate: 0.01}}
  epochs: 8
  batchSize: 16
"""


def waves(seed: int, rows: int) -> tuple[Any, list[str]]:
    """Return sequences, [rows, steps, 1], with something that rises or falls wherever it comes, and which it does."""
    random = np.random.default_rng(seed)
    sequences = random.normal(0, 0.1, (rows, STEPS, 1)).astype(np.float32)
    rises = random.random(rows) < 0.5
    for sequence, up, start in zip(sequences, rises, random.integers(2, STEPS - 8, rows), strict=True):
        sequence[start : start + 6, 0] += np.linspace(0, 1, 6) if up else np.linspace(1, 0, 6)
    return sequences, ["up" if up else "down" for up in rises]


def test_a_network_of_somebodys_own_is_trained_served_and_named_where_it_may_not_run(
    platform: Platform, run: Callable[..., str], tmp_path: Path
) -> None:
    headrace, file = str(Path(sys.executable).parent / "headrace"), tmp_path / "pipeline.yaml"
    file.write_text(DOCUMENT.replace("FACTORY", "leaves.nets:convolutional"))
    run(headrace, "apply", str(file), "--create-topic")
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for number, (sequence, wave) in enumerate(zip(*waves(1, ROWS), strict=True)):
        producer.send("waves", json.dumps({"id": f"w{number}", "x": sequence.tolist(), "wave": wave}).encode())
    producer.flush()
    producer.close()
    version = json.loads(run(headrace, "wait", "waves", "--timeout", "10m", "--json"))["version"]
    assert (version["state"], version["ordinal"]) == ("released", 1)
    assert version["metrics"]["accuracy"] > 0.9

    sequences, truth = waves(2, 40)
    with InferenceClient(platform.addresses["inference"]) as inference:
        answers = inference.infer("waves", {"x": sequences}).outputs
    assert np.mean(answers["label"] == truth) > 0.9

    file.write_text(DOCUMENT.replace("FACTORY", "digits.digits:scans"))
    run(headrace, "apply", str(file))
    told = " ".join(run(headrace, "wait", "waves", "--timeout", "10m", fails=True).split())
    assert "digits.digits:scans: expected a function of a package that this trainer allows (" in told
