"""The threshold of a rare class: chosen on the validation split, and answered by in the graph that is served."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.evaluation import predict
from headrace_learning.large import structure_of
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, Source
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest
from headrace_trainer.errors import WrongDataset

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: claims}}
stream:
  topic: claims
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: a, type: float32, role: feature}}
    - {{name: b, type: float32, role: feature}}
    - {{name: kind, type: string, role: label}}
prepare: {{split: {{train: 0.5, validation: 0.25, test: 0.25}}}}
train:
  network: {{kind: mlp, hidden: [8]}}
  optimizer: {{kind: adam, learningRate: 0.01}}
  epochs: 12
  seed: 3
  {train}
compress: {{variants: [{{kind: int8-dynamic}}], gates: {{measure: pr_auc}}}}
"""


class Notebook:
    """Keeps nothing of what a run tells."""

    def progress(self, *told: object) -> None: ...

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: object) -> None: ...

    def newest(self, subject: str) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "store"))


def learned(store: ObjectStore, train: str, rare: str = "fraud", also: str = "ok") -> tuple[Plan, Trained, Manifest]:
    """Train on 1,600 rows of which a twentieth is rare, and no feature tells quite which."""
    pipeline = load_pipeline(DOCUMENT.format(train=train))
    generator = np.random.default_rng(11)
    hit = generator.random(1600) < 0.05
    values = generator.normal(size=(1600, 2)) + 1.3 * hit[:, np.newaxis]
    rows = [
        {"id": f"r{at}", "a": a, "b": b, "kind": rare if hit[at] else also if at == 7 else "ok"}
        for at, (a, b) in enumerate(values.tolist())
    ]
    manifest = frozen(pipeline, rows, store)
    plan, notebook = Plan("train-1", pipeline, manifest), Notebook()
    return plan, run(plan, DatasetReader(manifest, store), notebook, notebook), manifest


def frozen(pipeline: Pipeline, rows: list[dict[str, object]], store: ObjectStore) -> Manifest:
    records = [json.dumps(row).encode() for row in rows]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    told = Provenance(cluster_id="c", topic="claims", topic_id="", sources=(), clean_ranges=(), rejected={})
    return only_dataset(writer.finish(told), pipeline, store)


def test_what_is_missed_costs_and_the_served_graph_answers_by_it(store: ObjectStore) -> None:
    _, plainly, _ = learned(store, "positive: fraud")
    wanted = "{costs: {missed: 20, falseAlarm: 1}}"
    plan, outcome, manifest = learned(store, f"positive: fraud\n  threshold: {wanted}")

    assert plainly.threshold is None
    assert outcome.threshold is not None
    assert 0 < outcome.threshold < 0.4
    assert outcome.metrics["recall"] > plainly.metrics["recall"] + 0.2
    assert outcome.metrics["pr_auc"] == plainly.metrics["pr_auc"], "the network is the same, and so are its scores"
    smaller = METHODS["int8-dynamic"].make(Source(outcome.graph), plan.pipeline.compress.variants[0])
    assert isinstance(smaller, Made)
    rows = DatasetReader(manifest, store).columns("test")
    features = {name: rows[name] for name in ("a", "b")}
    for graph in (outcome.graph, smaller.graph):
        answers = predict(graph, features)
        fraud = answers.probabilities[:, 0] > outcome.threshold
        assert ((answers.labels == "fraud") == fraud).all()
        assert fraud.any()
    described = json.loads(version_manifest(plan, outcome, store.put(b"w"), store.put(b"g")))
    assert described["threshold"] == outcome.threshold
    assert "threshold" not in json.loads(
        version_manifest(plan, replace(outcome, threshold=None), *[store.put(b"w")] * 2)
    )


def test_a_graph_without_a_threshold_has_nothing_of_it(store: ObjectStore) -> None:
    _, outcome, _ = learned(store, "classWeights: none")
    names = {node.name for node in structure_of(outcome.graph).graph.node}
    assert "Mul/label" not in names


@pytest.mark.parametrize(
    ("train", "rare", "also", "told"),
    [
        ("positive: theft", "fraud", "ok", "expected 'theft', which train.positive looks for, among .* got fraud, ok"),
        ("threshold: {maximise: f1}", "fraud", "odd", "expected two values of label 'kind', as train.threshold"),
    ],
)
def test_what_the_label_does_not_have_is_told(store: ObjectStore, train: str, rare: str, also: str, told: str) -> None:
    with pytest.raises(WrongDataset, match=told):
        learned(store, train, rare, also)
