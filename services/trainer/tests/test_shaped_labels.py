"""Labels with places, from rows to the served graph: tags, and a forecast of several steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.tasks import TASKS
from headrace_data.tasks.multilabel import LABELS, PLACE_PROBABILITIES
from headrace_data.tasks.quantile import QUANTILES
from headrace_data.tasks.regression import PREDICTION
from headrace_data.windows import only_dataset
from headrace_learning.evaluation import Answerer, open_graph
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: shaped}}
stream:
  topic: shaped
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [3], role: feature}}
    - {{name: y, type: {label}, role: label}}
prepare: {{split: {{train: 0.5, validation: 0.2, test: 0.3}}}}
train:
  network: {{kind: mlp, hidden: [16]}}
  optimizer: {{kind: adam, learningRate: 0.02}}
  epochs: 25
  seed: 3
{train}
"""
ROWS = 1500


class Notebook:
    """Keeps what is told of each epoch."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.told.append(dict(metrics))

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: object) -> None: ...

    def newest(self, subject: str) -> None: ...


Learned = tuple[Plan, Trained, Manifest, dict[str, Any], list[dict[str, float]]]


def learned(folder: Path, label: str, train: str, truth: Callable[[Any, Any], Any]) -> Learned:
    """Train on records as JSON; `truth` makes labels of features, [rows, 3], and a generator."""
    store = ObjectStore(str(folder))
    pipeline, generator = load_pipeline(DOCUMENT.format(label=label, train=train)), np.random.default_rng(7)
    x = generator.normal(size=(ROWS, 3))
    y = truth(x, generator)
    records = [json.dumps({"id": f"r{at}", "x": x[at].tolist(), "y": y[at].tolist()}).encode() for at in range(ROWS)]
    writer = SegmentWriter(pipeline, store)
    checked = RecordChecker(pipeline.stream).check(records, [0] * ROWS, range(ROWS))
    assert not checked.rejected
    writer.add(checked.batch)
    told = Provenance(cluster_id="c", topic="shaped", topic_id="", sources=(), clean_ranges=(), rejected={})
    manifest = only_dataset(writer.finish(told), pipeline, store)
    manifest = Manifest.from_json(manifest.to_json())
    plan, notebook = Plan("train-1", pipeline, manifest), Notebook()
    trained = run(plan, DatasetReader(manifest, store), notebook, notebook)
    described = json.loads(version_manifest(plan, trained, store.put(b"w"), store.put(b"g")))
    return plan, trained, manifest, described, notebook.told


def tags(x: Any, generator: Any) -> Any:
    """Three tags that follow from one number each: often, seldom and rarely."""
    return x + generator.normal(size=x.shape) * 0.3 > np.array([0.0, 1.0, 1.8])


def loads(x: Any, generator: Any) -> Any:
    """Two steps of other means, units and noise."""
    noise = generator.normal(size=(len(x), 2))
    return np.array([1e6, 5.0]) + np.array([100.0, 0.01]) * (x[:, :2] + 0.2 * noise)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    return learned(tmp_path_factory.mktemp("tags"), "bool, shape: [3], places: [often, seldom, rarely]", "", tags)


def test_tags_are_learned_from_booleans_and_told_by_name(tagged: Learned) -> None:
    plan, trained, manifest, described, told = tagged
    metrics, task = trained.metrics, TASKS["multilabel"]
    assert (plan.pipeline.task, manifest.classes, described["classes"]) == ("multilabel", (), [])
    assert metrics["mean_pr_auc"] > 0.8 > 2 * metrics["baseline_mean_pr_auc"]
    assert {f"{name}/{place}" for name in ("f1", "precision", "recall", "pr_auc") for place in ("often", "rarely")} <= (
        metrics.keys()
    )
    assert not task.baseline(metrics, task.headline).no_better
    assert told[-1]["validation_micro_f1"] > 0.75
    assert described["outputs"] == [
        {"name": PLACE_PROBABILITIES, "type": "float32", "shape": [-1, 3]},
        {"name": LABELS, "type": "uint8", "shape": [-1, 3]},
    ]
    outputs = open_graph(trained.graph).outputs
    assert [output.labels for output in outputs] == [("often", "seldom", "rarely")] * 2
    answers = Answerer(trained.graph).answers({"x": np.array([[3, 3, 3], [-3, -3, -3]], np.float32)})
    assert answers[LABELS].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_balanced_tags_are_found_more_often(tagged: Learned, tmp_path: Path) -> None:
    balanced = learned(tmp_path, "bool, shape: [3]", "  classWeights: balanced", tags)
    assert balanced[1].metrics["recall/3"] > tagged[1].metrics["recall/rarely"]


def test_each_step_of_a_forecast_has_its_own_unit_and_measure(tmp_path: Path) -> None:
    plan, trained, _, described, told = learned(
        tmp_path, "float64, shape: [2], places: [+1h, +2h]", "  predictionType: float64", loads
    )
    metrics = trained.metrics
    assert plan.pipeline.task == "regression"
    assert described["outputs"] == [{"name": PREDICTION, "type": "float64", "shape": [-1, 2]}]
    assert metrics["rmse/+1h"] == pytest.approx(20, rel=0.3)
    assert metrics["rmse/+2h"] == pytest.approx(0.002, rel=0.3)
    assert metrics["rmse"] == pytest.approx(np.sqrt((metrics["rmse/+1h"] ** 2 + metrics["rmse/+2h"] ** 2) / 2))
    assert metrics["rmse"] < 0.5 * metrics["baseline_rmse"]
    assert told[-1]["validation_rmse"] == pytest.approx(metrics["rmse"], rel=0.3)
    (output,) = open_graph(trained.graph).outputs
    assert (output.steps, output.labels, output.shape[1:]) == (("+1h", "+2h"), (), (2,))


def test_quantiles_of_each_step_hold_what_they_promise(tmp_path: Path) -> None:
    train = "  task: quantile\n  predictionType: float64\n  quantiles: [0.1, 0.5, 0.9]"
    _, trained, _, described, told = learned(tmp_path, "float64, shape: [2]", train, loads)
    metrics = trained.metrics
    assert described["outputs"] == [{"name": QUANTILES, "type": "float64", "shape": [-1, 2, 3]}]
    assert metrics["coverage/1"] == pytest.approx(0.8, abs=0.08)
    assert metrics["pinball"] == pytest.approx((metrics["pinball/1"] + metrics["pinball/2"]) / 2)
    assert metrics["pinball"] < 0.5 * metrics["baseline_pinball"]
    assert told[-1]["validation_pinball"] == pytest.approx(metrics["pinball"], rel=0.3)
    (output,) = open_graph(trained.graph).outputs
    assert (output.steps, output.labels) == (("1", "2"), ("0.1", "0.5", "0.9"))
    answers = Answerer(trained.graph).answers({"x": np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)})
    assert (np.diff(answers[QUANTILES], axis=2) >= 0).all()
