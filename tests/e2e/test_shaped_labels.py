"""Labels with places through all six services: tags, and a forecast of several steps, from JSON to gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace_client import InferenceClient
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

ROWS = 600
DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {name}
  schema:
    - {{name: series, type: string, role: group}}
    - {{name: x, type: float32, shape: [3], role: feature}}
    - {{name: y, {label}, role: label}}
prepare:
  split: {{train: 0.5, validation: 0.25, test: 0.25}}
  freeze: {{afterRecords: 600}}
train:
  network: {{kind: mlp, hidden: [16]}}
  optimizer: {{kind: adam, learningRate: 0.02}}
  epochs: 25
{train}
compress: {{variants: [{{kind: int8-dynamic}}], gates: {{baseline: ignored}}}}
"""


def served(platform: Platform, headrace: Callable[..., Any], folder: Path, name: str, label: str, train: str) -> Any:
    """Apply, stream and wait: what `headrace wait` says of the version."""
    file = folder / f"{name}.yaml"
    file.write_text(DOCUMENT.format(name=name, label=label, train=train))
    applied = headrace("apply", str(file), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    generator = np.random.default_rng(5)
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for at in range(ROWS):
        x = generator.normal(size=3)
        y = (x > [0.0, 0.5, 1.0]) if "bool" in label else 100 + 10 * x[:2]
        record = {"series": f"s{at // 4}", "x": x.tolist(), "y": y.tolist()}
        producer.send(name, json.dumps(record).encode())
    producer.flush()
    producer.close()
    waited = headrace("wait", name, "--timeout", "150s", "--json")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    return json.loads(waited.stdout)["version"]


def test_tags_are_answered_by_name(
    platform: Platform, headrace: Callable[..., Any], inference: InferenceClient, tmp_path: Path
) -> None:
    version = served(platform, headrace, tmp_path, "tags", "type: bool, shape: [3], places: [often, seldom, rare]", "")
    assert (version["task"], version["measure"]) == ("multilabel", "mean_pr_auc")
    assert version["metrics"]["mean_pr_auc"] > version["metrics"]["baseline_mean_pr_auc"]
    assert {"agreement", "relativeLogitError"} <= {gate["gate"] for gate in version["gates"]}

    rows = np.array([[3, 3, 3], [-3, -3, -3]], np.float32)
    outputs = inference.infer("tags", {"x": rows}).outputs
    assert outputs["labels"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert outputs["label_probabilities"].shape == (2, 3)
    assert {each.labels for each in inference.metadata("tags").outputs} == {("often", "seldom", "rare")}
    shown = headrace("predict", "tags", stdin='{"x": [3, 3, 3]}\n{"x": [-3, -3, -3]}').stdout
    assert "often" in shown
    assert "none" in shown


def test_a_forecast_answers_the_quantiles_of_each_step(
    platform: Platform, headrace: Callable[..., Any], inference: InferenceClient, tmp_path: Path
) -> None:
    train = "  task: quantile\n  predictionType: float64"
    label = "type: float64, shape: [2], places: [+1h, +2h]"
    version = served(platform, headrace, tmp_path, "loads", label, train)
    assert {"pinball/+1h", "coverage/+2h"} <= version["metrics"].keys()

    outputs = inference.infer("loads", {"x": np.zeros((4, 3), np.float32)}).outputs["quantiles"]
    assert outputs.shape == (4, 2, 3)
    assert outputs.dtype == np.float64
    assert (np.diff(outputs, axis=2) >= 0).all()
    (told,) = inference.metadata("loads").outputs
    assert (told.steps, told.labels, told.shape) == (("+1h", "+2h"), ("0.1", "0.5", "0.9"), (-1, 2, 3))
    answered = json.loads(headrace("predict", "loads", "--json", stdin='{"x": [0, 0, 0]}').stdout)
    assert answered[0]["outputs"]["quantiles"]["+1h"]["0.5"] == pytest.approx(100, abs=10)
