"""Labels with places as they are served: the graph answers hostile rows as the model does, whatever the network is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.spec import Variant, load_pipeline
from headrace_data.tasks import TASKS
from headrace_data.tasks.multilabel import LABELS, PLACE_PROBABILITIES
from headrace_data.tasks.quantile import QUANTILES
from headrace_data.tasks.regression import PREDICTION
from headrace_data.transforms import FittedTransform
from headrace_engines.model import run_in_batches
from headrace_learning.evaluation import Answerer, LogitError, open_graph
from headrace_learning.export import LARGEST_DIFFERENCE, Exported, export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Run, Sources
from headrace_learning.features import Feature
from headrace_learning.heads import HEADS
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, Source
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.rows import Rows

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: shaped}}
stream:
  topic: shaped
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [6, 6], role: feature}}
    - {{name: y, type: {label}, role: label}}
train: {{network: {network}, epochs: 2, batchSize: 32{train}}}
"""
KINDS = {
    "mlp": "{kind: mlp, hidden: [16]}",
    "cnn": "{kind: cnn, channels: [4], hidden: [8]}",
    "residual": "{kind: residual, channels: [4, 8]}",
    "python": "{kind: python, factory: 'shaped_nets:plain'}",
}
TAGS, STEPS = "bool, shape: [3], places: [often, seldom, rarely]", "float64, shape: [2]"
ASKED = {
    "multilabel": (TAGS, ""),
    "regression": (STEPS, ", predictionType: float32"),
    "regression float64": (STEPS, ", predictionType: float64"),
    "quantile": (STEPS, ", task: quantile, predictionType: float64"),
}
OUTPUTS = {"multilabel": PLACE_PROBABILITIES, "regression": PREDICTION, "quantile": QUANTILES}
FEATURE = Feature(FittedTransform("x", "none", np.zeros((6, 6)), np.ones((6, 6))), "float32", (6, 6))
NET = """\
from torch import nn


def plain(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, outputs))
"""


class Nowhere:
    """Keeps no checkpoints and tells nobody."""

    def newest(self, _subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None: ...

    def progress(self, *_told: object) -> None: ...


def learned(asked: str, kind: str, weights: float = 1.0) -> tuple[Any, Any, Exported, dict[str, Any]]:
    """Train for a moment, and export beside rows that no producer should send."""
    label, train = ASKED[asked]
    pipeline = load_pipeline(DOCUMENT.format(label=label, network=KINDS[kind], train=train))
    task, field, generator = TASKS[pipeline.task], pipeline.stream.label, np.random.default_rng(3)
    x = generator.normal(size=(96, 6, 6)).astype(np.float32)
    numbers = x[:, 0, : field.size] + generator.normal(size=(96, field.size)) / 2
    values = (numbers > 0.5).astype(np.uint8) if task.kind == "multilabel" else numbers * [50.0, 0.01] + [1e4, 0.0]
    labels = task.labels(pipeline.train, field.place_names)
    labels.add(values)
    places = task.places(pipeline.train, field.place_names)
    head = HEADS[pipeline.task](pipeline, places, labels)

    family = FAMILIES[kind].allowing(["shaped_nets"])
    shape, book = family.input_shape([FEATURE]), Nowhere()
    rows = Rows(torch.from_numpy(x).reshape(-1, *shape), head.targets(values))
    told = Run(pipeline.train, shape, head.outputs, "what on what", book, book)
    fitted = family.fit(pipeline.train.network, Sources(rows, rows), head.objective, told)
    for parameter in fitted.network.parameters():
        parameter.data *= weights
    ends = np.array([0.0, -0.0, 1e-30, 1.0, -1.0, 30.0, -30.0, 300.0, -300.0], np.float32)
    hostile = np.concatenate([np.resize(ends, (9, 6, 6)), x * 5, generator.choice(ends, (60, 6, 6))])
    model = head.serve([FEATURE], shape, fitted.network)
    given = {"x": hostile.astype(np.float32)}
    return pipeline, model, export_graph(model, places, given), given


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shaped_nets.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "residual", pytest.param("python", marks=pytest.mark.slow)])
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.usefixtures("own")
def test_the_graph_answers_hostile_rows_as_the_model_does(asked: str, kind: str) -> None:
    pipeline, _, exported, given = learned(asked, kind)
    assert exported.difference <= LARGEST_DIFFERENCE
    answers = Answerer(exported.data).answers(given)
    answer = answers[OUTPUTS[pipeline.task]]
    assert answer.shape == (len(given["x"]), pipeline.stream.label.size, *([3] if pipeline.task == "quantile" else []))
    assert np.isfinite(answer).all()
    if pipeline.task == "multilabel":
        assert (answers[LABELS] == (answer > 0.5)).all()
    if pipeline.task == "quantile":
        assert (np.diff(answer, axis=2) >= 0).all()


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("method", ["int8-dynamic", "float16-weights", "weight-only-int8"])
def test_variants_keep_places_and_what_is_promised_of_them(asked: str, method: Any) -> None:
    pipeline, _, exported, given = learned(asked, "mlp", weights=3.0)
    smaller = METHODS[method].make(Source(exported.data), Variant(kind=method))
    assert isinstance(smaller, Made)
    made = smaller.graph
    outputs = TASKS[pipeline.task].outputs
    answers = dict(zip(outputs, run_in_batches(open_graph(made), given, outputs), strict=True))
    whole = Answerer(exported.data).answers(given)
    assert {name: each.shape for name, each in answers.items()} == {name: each.shape for name, each in whole.items()}
    named, before = ([(each.labels, each.steps) for each in open_graph(one).outputs] for one in (made, exported.data))
    assert named == before
    if pipeline.task == "multilabel":
        assert (answers[LABELS] == (answers[PLACE_PROBABILITIES] > 0.5)).all()
        error = LogitError(exported.data, made)
        error.add(given)
        assert 0 < error.relative < 0.2
    if pipeline.task == "quantile":
        assert (np.diff(answers[QUANTILES], axis=2) >= 0).all()
