"""A forecast by quantiles, from rows to the served graph: what is promised holds on rows that nobody learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.tasks import TASKS
from headrace_data.tasks.quantile import QUANTILES, OrderedLabels
from headrace_data.windows import only_dataset
from headrace_learning.evaluation import Answerer
from headrace_learning.families.mlp import mlp
from headrace_learning.heads import HEADS
from headrace_learning.heads.quantile import in_order, start_of
from headrace_learning.training.transfer import Names, Origin, begin
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: load}
stream:
  topic: load
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float32, role: feature}
    - {name: load, type: float64, unit: kW, role: label}
prepare: {split: {train: 0.5, validation: 0.2, test: 0.3}}
train:
  network: {kind: mlp, hidden: [16]}
  optimizer: {kind: adam, learningRate: 0.02}
  epochs: 30
  seed: 3
  task: quantile
  quantiles: [0.1, 0.5, 0.9]
  predictionType: float64
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
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Trained, Manifest, ObjectStore, Notebook]:
    """Loads around a million whose noise grows with x: no one width of an interval is right."""
    store = ObjectStore(str(Path(tmp_path_factory.mktemp("store"))))
    pipeline, generator = load_pipeline(DOCUMENT), np.random.default_rng(7)
    x = generator.uniform(0, 2, 2400)
    load = 1e6 + 100 * x + generator.normal(size=2400) * (5 + 40 * x)
    records = [
        json.dumps({"id": f"r{at}", "x": float(x[at]), "load": float(load[at])}).encode() for at in range(len(x))
    ]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    told = Provenance(cluster_id="c", topic="load", topic_id="", sources=(), clean_ranges=(), rejected={})
    manifest = only_dataset(writer.finish(told), pipeline, store)
    plan, notebook = Plan("train-1", pipeline, manifest), Notebook()
    return plan, run(plan, DatasetReader(manifest, store), notebook, notebook), manifest, store, notebook


def test_the_outer_quantiles_hold_what_they_promise_and_beat_those_that_look_at_nothing(learned) -> None:
    metrics = learned[1].metrics
    assert metrics["coverage"] == pytest.approx(0.8, abs=0.06)
    assert metrics["coverage_error"] == pytest.approx(abs(metrics["coverage"] - 0.8))
    assert metrics["pinball"] < 0.75 * metrics["baseline_pinball"]
    task = TASKS["quantile"]
    assert not task.baseline(metrics, task.headline).no_better
    assert learned[4].told[-1].keys() >= {"train_loss", "validation_loss", "validation_pinball"}
    # In the label's unit, as on the test split.
    assert learned[4].told[-1]["validation_pinball"] == pytest.approx(metrics["pinball"], rel=0.2)


def test_an_interval_is_as_wide_as_the_noise_is(learned) -> None:
    answers = Answerer(learned[1].graph).answers({"x": np.array([0.1, 1.9], np.float32)})[QUANTILES]
    narrow, wide = answers[:, 2] - answers[:, 0]
    assert wide > 3 * narrow > 0
    # Of a normal distribution 0.8 lie within 1.28 deviations of both sides.
    assert wide == pytest.approx(2 * 1.28 * (5 + 40 * 1.9), rel=0.35)


def test_a_version_tells_what_it_answers(learned) -> None:
    plan, trained, manifest, store, _ = learned
    described = json.loads(version_manifest(plan, trained, store.put(b"w"), store.put(b"g")))
    assert described["outputs"] == [{"name": "quantiles", "type": "float64", "shape": [-1, 3]}]
    assert (described["task"], described["classes"], manifest.classes) == ("quantile", [], ())


def test_quantiles_learn_on_from_a_version_of_before_they_had_a_start() -> None:
    labels = OrderedLabels((0.1, 0.5, 0.9))
    labels.add(np.random.default_rng(2).normal(1e6, 50, 400))
    held = {name: torch.tensor(getattr(labels, name)) for name in ("mean", "deviation")}
    before, now, rows, start = mlp(4, (5,), 3), mlp(4, (5,), 3), torch.randn(7, 4), start_of(labels)
    rescaled = HEADS["quantile"](load_pipeline(DOCUMENT), ("0.1", "0.5", "0.9"), labels).rescaled
    origin = Origin(before.state_dict(), Names([], []), Names([], []), rescaled(held))
    assert begin(now, origin, load_pipeline(DOCUMENT).train).taken == ("0", "3")
    torch.testing.assert_close(in_order(now(rows) + start), in_order(before(rows)))
    assert rescaled({**held, "start": start}) is None, "what is added to a start is added to any"
