"""Counts as they are learned and served: above zero whatever the row, and in the graph as in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.spec import Variant, load_pipeline
from headrace_data.tasks.count import EXPECTED, Counted, CountScores
from headrace_data.transforms import FittedTransform
from headrace_engines.model import run_in_batches
from headrace_learning.evaluation import Answerer, open_graph
from headrace_learning.export import LARGEST_DIFFERENCE, export_graph
from headrace_learning.families import mlp
from headrace_learning.features import Feature
from headrace_learning.graphs import task_of_graph
from headrace_learning.heads import HEADS
from headrace_learning.heads.count import Poisson
from headrace_learning.heads.head import Learned
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, Source
from headrace_learning.served import ServedModel
from torch import nn
from torch.nn import functional

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: orders}}
stream:
  topic: orders
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [4], role: feature}}
    - {{name: y, type: int64, role: label}}
train: {{network: {{kind: mlp, hidden: [16]}}, task: count, predictionType: {answer}}}
"""
FEATURE = Feature(FittedTransform("x", "none", np.zeros(4), np.ones(4)), "float32", (4,))


def learned(counts: list[int], answer: str = "float32") -> Learned:
    labels = Counted()
    labels.add(np.array(counts))
    return HEADS["count"](load_pipeline(DOCUMENT.format(answer=answer)), (), labels)


def model_of(answer: str, mean: int, weights: float = 1.0) -> ServedModel:
    torch.manual_seed(2)
    section = load_pipeline(DOCUMENT.format(answer=answer)).train.network
    network = mlp.FAMILY.build(section, (4,), 1)
    for parameter in network.parameters():
        parameter.data *= weights
    return learned([0, 2 * mean], answer).serve([FEATURE], (4,), network)


def hostile() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(4)
    ends = np.array([0.0, -0.0, 1e-30, 1.0, -1.0, 30.0, -30.0, 1e30, -1e30], np.float32)
    rows: list[np.ndarray[Any, Any]] = [
        np.resize(ends, (9, 4)),
        generator.normal(size=(300, 4)) * 5,
        generator.choice(ends, (200, 4)),
    ]
    return {"x": np.concatenate(rows).astype(np.float32)}


@pytest.mark.parametrize("answer", ["float32", "float64"])
@pytest.mark.parametrize("weights", [1.0, 30.0])
@pytest.mark.parametrize("mean", [1, 10**9])
def test_counts_are_above_zero_and_the_graph_answers_as_the_model_does(answer: str, weights: float, mean: int) -> None:
    model, rows = model_of(answer, mean, weights), hostile()
    exported = export_graph(model, (), rows)
    assert exported.difference <= LARGEST_DIFFERENCE
    answered = Answerer(exported.data).answers(rows)[EXPECTED]
    assert (answered.dtype, answered.shape) == (answer, (len(rows["x"]),))
    assert np.isfinite(answered).all()
    assert (answered > 0).all()
    assert task_of_graph(exported.data).kind == "count"
    smaller = METHODS["int8-dynamic"].make(Source(exported.data), Variant(kind="int8-dynamic"))
    assert isinstance(smaller, Made)
    (int8,) = run_in_batches(open_graph(smaller.graph), rows, [EXPECTED])
    assert (int8 > 0).all()


def test_a_graph_that_answers_otherwise_is_found_out() -> None:
    model, rows = model_of("float64", 5), hostile()
    answered = Answerer(export_graph(model, (), rows).data).answers(rows)
    wrong, _ = model.difference({EXPECTED: answered[EXPECTED] * 1.001}, rows, (), None)
    assert wrong > LARGEST_DIFFERENCE


def test_the_loss_is_that_of_poisson_and_what_is_told_the_deviance() -> None:
    generator = torch.Generator().manual_seed(3)
    outputs, targets = torch.randn(50, 1, generator=generator), torch.rand(50, generator=generator).round() * 3
    objective = Poisson(7.0)
    assert float(objective.loss(outputs, targets)) == pytest.approx(
        float(functional.poisson_nll_loss(outputs.squeeze(1), targets)), rel=1e-5
    )
    scores = CountScores()
    scores.add({EXPECTED: 7.0 * outputs.squeeze(1).exp().numpy()}, 7.0 * targets.numpy())
    told = objective.told(objective.measure(outputs, targets))
    assert told["deviance"] == pytest.approx(scores.quality()["deviance"], rel=1e-5)


def test_a_network_that_answers_zeros_expects_the_mean_and_nothing_counted_is_no_division() -> None:
    rows = torch.zeros(2, 4)
    assert learned([0, 1, 5]).serve([FEATURE], (4,), _zeros())(rows).tolist() == [2.0, 2.0]
    nothing = learned([0, 0])
    assert nothing.targets(np.array([0, 0])).tolist() == [0.0, 0.0]
    assert nothing.serve([FEATURE], (4,), _zeros())(rows).tolist() == [1.0, 1.0]


def test_a_version_goes_on_from_another_beside_the_new_mean() -> None:
    before, now = learned([10, 30]), learned([1, 3])
    old = before.serve([FEATURE], (4,), _zeros())
    factor, added = now.rescaled(old.weights())  # type: ignore[misc]
    outputs = torch.tensor([[0.5]])
    rescaled = outputs * float(factor) + float(added)
    begun = now.serve([FEATURE], (4,), _Constant(rescaled))(torch.zeros(1, 4))
    assert begun.tolist() == pytest.approx((20 * outputs.exp()).squeeze(1).tolist())


@pytest.mark.parametrize("mean", [-3.0, 0.0, [1.0, 2.0]])
def test_a_version_of_another_task_goes_on_as_it_is(mean: float | list[float]) -> None:
    held = {"mean": torch.tensor(mean, dtype=torch.float64), "deviation": torch.tensor(1.0)}
    assert learned([1, 3]).rescaled(held) is None


class _Constant(nn.Module):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(rows), 1)


def _zeros() -> nn.Linear:
    layer = nn.Linear(4, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
