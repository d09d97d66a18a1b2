"""Quantiles as they are learned and served: in order whatever the row, and in the graph as in training."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.spec import Variant, load_pipeline
from headrace_data.tasks import TASKS
from headrace_data.tasks.quantile import LEVELS, QUANTILES, OrderedLabels
from headrace_data.transforms import FittedTransform
from headrace_engines.model import run_in_batches
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import Answerer, open_graph
from headrace_learning.export import LARGEST_DIFFERENCE, export_graph
from headrace_learning.families import FAMILIES, mlp
from headrace_learning.features import Feature
from headrace_learning.graphs import classes_of_graph, task_of_graph
from headrace_learning.heads import HEADS
from headrace_learning.heads.quantile import Pinball, in_order
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, Source
from headrace_learning.served import ServedModel
from sklearn.metrics import mean_pinball_loss

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: load}}
stream:
  topic: load
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [4], role: feature}}
    - {{name: y, type: float64, role: label}}
train: {{network: {{kind: mlp, hidden: [16]}}, task: quantile, predictionType: {answer}}}
"""
PLACES = tuple(map(str, LEVELS))
FEATURE = Feature(FittedTransform("x", "none", np.zeros(4), np.ones(4)), "float32", (4,))


def model_of(answer: str, mean: float = 1e6, weights: float = 1.0) -> ServedModel:
    pipeline = load_pipeline(DOCUMENT.format(answer=answer))
    labels = OrderedLabels(LEVELS)
    labels.add(np.random.default_rng(1).normal(mean, 50.0, 400))
    torch.manual_seed(2)
    network = mlp.FAMILY.build(pipeline.train.network, (4,), len(LEVELS))
    for parameter in network.parameters():
        parameter.data *= weights
    return HEADS["quantile"](pipeline, PLACES, labels).serve([FEATURE], (4,), network)


def hostile(scale: float) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(4)
    ends = np.array([0.0, -0.0, 1e-30, 1.0, -1.0, 30.0, -30.0, scale, -scale], np.float32)
    rows: list[np.ndarray[Any, Any]] = [
        np.resize(ends, (9, 4)),
        generator.normal(size=(300, 4)) * 5,
        generator.choice(ends, (200, 4)),
    ]
    return {"x": np.concatenate(rows).astype(np.float32)}


@pytest.mark.parametrize("answer", ["float32", "float64"])
@pytest.mark.parametrize("weights", [1.0, 30.0])
def test_quantiles_never_cross_and_the_graph_answers_as_the_model_does(answer: str, weights: float) -> None:
    model, rows = model_of(answer, weights=weights), hostile(1e4)
    exported = export_graph(model, PLACES, rows)
    assert exported.difference <= LARGEST_DIFFERENCE
    answered = Answerer(exported.data).answers(rows)[QUANTILES]
    assert answered.dtype == answer
    assert answered.shape == (len(rows["x"]), 3)
    assert (np.diff(answered, axis=1) >= 0).all()
    smaller = METHODS["int8-dynamic"].make(Source(exported.data), Variant(kind="int8-dynamic"))
    assert isinstance(smaller, Made)
    (int8,) = run_in_batches(open_graph(smaller.graph), rows, [QUANTILES])
    assert (np.diff(int8, axis=1) >= 0).all()


def test_a_graph_says_which_levels_it_answers() -> None:
    graph = export_graph(model_of("float32"), PLACES, hostile(1.0)).data
    assert task_of_graph(graph).kind == "quantile"
    assert classes_of_graph(graph) == list(PLACES)
    assert [output.labels for output in open_graph(graph).outputs] == [PLACES]
    assert export_graph(model_of("float32"), PLACES, hostile(2.0)).data == graph, "equal models give equal bytes"


def test_the_loss_is_the_pinball_loss_of_what_is_answered() -> None:
    generator = torch.Generator().manual_seed(3)
    outputs, targets = torch.randn(50, 3, generator=generator), torch.randn(50, generator=generator)
    start = torch.tensor([-1.0, 0.5, 2.0])
    objective, given = Pinball(LEVELS, 50.0, start), in_order(outputs + start)
    assert all((given[:, low] <= given[:, high]).all() for low, high in pairwise(range(3)))
    expected = np.mean([mean_pinball_loss(targets, given[:, at], alpha=level) for at, level in enumerate(LEVELS)])
    assert float(objective.loss(outputs, targets)) == pytest.approx(expected, rel=1e-5)
    assert objective.told(objective.measure(outputs, targets))["pinball"] == pytest.approx(50 * expected, rel=1e-5)


@pytest.mark.parametrize("labels", ["normal", "counts"])
def test_a_network_begins_at_the_quantiles_of_the_training_split(labels: str) -> None:
    random = np.random.default_rng(8)
    values = {"normal": random.normal(1e6, 50.0, 4000), "counts": random.poisson(0.3, 4000).astype(float)}
    levels = tuple(place / 100 for place in range(1, 100))
    known = OrderedLabels(levels)
    known.add(values[labels])
    wanted = known.quantiles()
    document = DOCUMENT.replace("task: quantile", f"task: quantile, quantiles: {list(levels)}")
    model = HEADS["quantile"](load_pipeline(document.format(answer="float64")), tuple(map(str, levels)), known).serve(
        [FEATURE], (4,), torch.nn.Sequential(_zeros(99))
    )

    exported = export_graph(model, tuple(map(str, levels)), {"x": np.zeros((2, 4), np.float32)})
    (given,) = run_in_batches(open_graph(exported.data), {"x": np.zeros((2, 4), np.float32)}, [QUANTILES])

    # Between equal quantiles a little is left, from which a gap can be learned.
    np.testing.assert_allclose(given[0], wanted, atol=0.1 * known.deviation)
    pinball = TASKS["quantile"].scores(list(map(str, levels)))
    pinball.add({QUANTILES: np.repeat(given[:1], 4000, axis=0)}, values[labels])
    always = known.baseline()
    always.add(values[labels])
    assert pinball.quality()["pinball"] <= 1.05 * always.metrics()["baseline_pinball"]


def _zeros(outputs: int) -> torch.nn.Linear:
    layer = torch.nn.Linear(4, outputs)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer


def test_trees_do_not_learn_them() -> None:
    with pytest.raises(NotLearnable, match="trees learn classes, or one number"):
        FAMILIES["trees"].fit(None, None, Pinball(LEVELS, 1.0, torch.zeros(3)), None)  # type: ignore[arg-type]
