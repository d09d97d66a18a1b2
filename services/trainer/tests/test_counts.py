"""Counts, from rows to the served graph: networks and trees come close to what the counts were drawn from."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetUnusable
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.split import SPLITS, SplitName
from headrace_data.tasks import TASKS
from headrace_data.tasks.count import EXPECTED
from headrace_data.windows import only_dataset
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import Answerer
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest
from sklearn.metrics import mean_poisson_deviance

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: orders}}
stream:
  topic: orders
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: warmth, type: float32, role: feature}}
    - {{name: day, type: string, role: feature}}
    - {{name: orders, type: int32, role: label}}
prepare: {{split: {{train: 0.6, validation: 0.2, test: 0.2}}, transform: {{day: {{encode: onehot}}}}}}
train:
  network: {{{network}}}
  earlyStop: {{patience: 5}}
  seed: 3
  task: count
  predictionType: float32{more}
"""
OF_NETWORKS = "optimizer: {kind: adam, learningRate: 0.01}\n  epochs: 20\n  compareWith: trees"
DAYS = {"mon": 0.5, "sat": 3.0, "sun": 6.0}


class Notebook:
    """Keeps what is told of each step."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.told.append(dict(metrics))

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: object) -> None: ...

    def newest(self, subject: str) -> None: ...


def pipeline_of(network: str, more: str = "") -> Pipeline:
    return load_pipeline(DOCUMENT.format(network=network, more=f"\n  {more}" if more else ""))


def expected(warmth: np.ndarray, day: np.ndarray) -> np.ndarray:
    return np.exp(0.8 * warmth) * np.array([DAYS[each] for each in day])


def frozen(pipeline: Pipeline, store: ObjectStore, rows: int = 3000, counted: np.ndarray | None = None) -> Manifest:
    """Orders that fewer or more come of the warmer it is, and on some days; or those that were `counted`."""
    random = np.random.default_rng(7)
    warmth, day = random.normal(size=rows), random.choice(list(DAYS), rows)
    orders = random.poisson(expected(warmth, day)) if counted is None else counted
    records = [
        json.dumps({"id": f"r{at}", "warmth": warmth[at], "day": str(day[at]), "orders": int(orders[at])}).encode()
        for at in range(rows)
    ]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * rows, range(rows)).batch)
    told = Provenance(cluster_id="c", topic="orders", topic_id="", sources=(), clean_ranges=(), rejected={})
    return only_dataset(writer.finish(told), pipeline, store)


def trained(pipeline: Pipeline, manifest: Manifest, store: ObjectStore) -> tuple[Plan, Trained, Notebook]:
    plan, notebook = Plan("train-1", pipeline, manifest), Notebook()
    return plan, run(plan, DatasetReader(manifest, store), notebook, notebook), notebook


@pytest.mark.parametrize("network", ["kind: mlp, hidden: [32]", "kind: trees, rounds: 100, learningRate: 0.1"])
def test_what_is_expected_comes_close_to_what_counts_were_drawn_from(network: str, store: ObjectStore) -> None:
    pipeline = pipeline_of(network, OF_NETWORKS if "mlp" in network else "")
    manifest = frozen(pipeline, store)
    plan, learned, notebook = trained(pipeline, manifest, store)

    columns = dict(DatasetReader(manifest, store).columns("test"))
    counts = columns.pop("orders")
    best = mean_poisson_deviance(counts, expected(columns["warmth"], columns["day"]))
    metrics = learned.metrics
    # The deviance of the very numbers that the counts were drawn from is what there is to come to.
    assert 0.95 * best < metrics["deviance"] < 1.15 * best < 0.4 * metrics["baseline_deviance"]
    assert metrics["deviance_explained"] > 0.6
    assert not TASKS["count"].baseline(metrics, TASKS["count"].headline).no_better
    assert min(told["validation_deviance"] for told in notebook.told) == pytest.approx(metrics["deviance"], rel=0.2)
    answers = Answerer(learned.graph).answers(columns)[EXPECTED]
    assert (answers > 0).all()
    described = json.loads(version_manifest(plan, learned, store.put(b"w"), store.put(b"g")))
    assert described["outputs"] == [{"name": EXPECTED, "type": "float32", "shape": [-1]}]
    assert (described["task"], described["classes"]) == ("count", [])
    if "mlp" in network:
        assert 0.95 * best < learned.beside["trees_deviance"] < 1.2 * best


def only_in(split: SplitName, count: int, pipeline: Pipeline, store: ObjectStore, rows: int = 300) -> Manifest:
    """Return a dataset in which one row of a split has a count, and all others none."""
    places = dict(DatasetReader(frozen(pipeline, store, rows, np.arange(rows)), store).columns(split))["orders"]
    return frozen(pipeline, store, rows, np.where(np.arange(rows) == places[0], count, 0))


@pytest.mark.parametrize("split", SPLITS)
def test_labels_below_zero_end_the_run_with_the_cure(split: SplitName, store: ObjectStore) -> None:
    pipeline = pipeline_of("kind: mlp, hidden: [2]")
    with pytest.raises(DatasetUnusable, match="expected counts of 0 and more, got -100; give the label the range"):
        trained(pipeline, only_in(split, -100, pipeline, store), store)


def test_trees_that_have_nothing_to_count_are_refused_and_a_network_does_without_them(store: ObjectStore) -> None:
    pipeline = pipeline_of("kind: trees")
    with pytest.raises(NotLearnable, match="expected a count above 0 in the training split, which trees need"):
        trained(pipeline, only_in("test", 3, pipeline, store), store)
    pipeline = pipeline_of("kind: mlp, hidden: [2]", "epochs: 1\n  compareWith: trees")
    _, learned, _ = trained(pipeline, only_in("test", 3, pipeline, store), store)
    assert learned.beside == {}
    assert learned.metrics["deviance"] > 0
