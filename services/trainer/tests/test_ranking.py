"""A ranking, from rows to the served graph: better than a random order, and the same streamed as in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.tasks import TASKS
from headrace_data.tasks.ranking import SCORE, measures_of
from headrace_data.windows import only_dataset
from headrace_learning.evaluation import Answerer
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest
from headrace_trainer.errors import DoesNotFit

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: shop}
stream:
  topic: shop
  schema:
    - {name: id, type: string, role: id}
    - {name: query, type: string, role: group}
    - {name: x, type: float32, shape: [3], role: feature}
    - {name: kind, type: string, role: feature}
    - {name: clicks, type: int32, role: label}
prepare: {split: {train: 0.5, validation: 0.2, test: 0.3}, transform: {kind: {encode: onehot}}}
train:
  network: {kind: mlp, hidden: [16]}
  optimizer: {kind: adam, learningRate: 0.01}
  epochs: 12
  seed: 3
  task: ranking
"""


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


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, DatasetReader, ObjectStore]:
    """Queries whose rows are clicked by x and kind; how much is clicked at all differs between queries."""
    store = ObjectStore(str(Path(tmp_path_factory.mktemp("store"))))
    pipeline, generator = load_pipeline(DOCUMENT), np.random.default_rng(7)
    x, kind, query = generator.normal(size=(2400, 3)), generator.integers(0, 3, 2400), generator.integers(0, 160, 2400)
    eager = generator.normal(size=160)[query] * 3
    clicks = np.maximum(np.round(1.5 * x[:, 0] * x[:, 1] + kind + eager + generator.normal(size=2400) / 2), 0)
    records = [
        json.dumps(
            {
                "id": f"r{at}",
                "query": f"q{query[at]}",
                "x": x[at].tolist(),
                "kind": "abc"[kind[at]],
                "clicks": int(clicks[at]),
            }
        ).encode()
        for at in range(2400)
    ]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    told = Provenance(cluster_id="c", topic="shop", topic_id="", sources=(), clean_ranges=(), rejected={})
    manifest: Manifest = only_dataset(writer.finish(told), pipeline, store)
    return Plan("train-1", pipeline, manifest), DatasetReader(manifest, store, grouped=True), store


@pytest.fixture(scope="module")
def learned(frozen: tuple[Plan, DatasetReader, ObjectStore]) -> tuple[Trained, Notebook]:
    notebook = Notebook()
    return run(frozen[0], frozen[1], notebook, notebook), notebook


def test_an_order_is_learned_that_beats_a_random_one(frozen, learned) -> None:
    plan, reader, store = frozen
    trained, notebook = learned
    metrics, task = trained.metrics, TASKS["ranking"]
    assert metrics["ndcg_at_10"] > 0.9 > metrics["baseline_ndcg_at_10"] + 0.1
    assert metrics["mrr"] > metrics["baseline_mrr"]
    assert not task.baseline(metrics, task.headline).no_better
    # What is told is what the graph's scores are worth.
    columns = reader.columns("test")
    truth = columns.pop("clicks")
    scores = Answerer(trained.graph).answers(columns)[SCORE]
    assert measures_of(scores, truth).items() <= metrics.items()
    assert notebook.told[-1].keys() >= {"train_loss", "validation_loss", "validation_ndcg_at_10"}
    assert notebook.told[-1]["validation_loss"] == pytest.approx(notebook.told[-1]["validation_list_loss"], rel=1e-5)
    described = json.loads(version_manifest(plan, trained, store.put(b"w"), store.put(b"g")))
    assert described["outputs"] == [{"name": "score", "type": "float32", "shape": [-1]}]
    assert (described["task"], described["classes"]) == ("ranking", [])


def test_rows_that_come_as_a_stream_are_brought_together_in_memory(frozen, learned) -> None:
    """A group's rows come from anywhere in a stream: those of all are held, and the version is the same."""
    plan, reader, _ = frozen
    streamed = run(plan, reader, Notebook(), Notebook(), Memory(rows_bytes=0, buffer_bytes=1, validation_bytes=0))
    assert streamed.weights == learned[0].weights
    assert streamed.metrics == learned[0].metrics
    with pytest.raises(DoesNotFit):
        run(plan, reader, Notebook(), Notebook(), Memory(total_bytes=100_000, rows_bytes=0))
