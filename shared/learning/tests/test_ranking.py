"""Ranking as it is learned and served: list by list, and in the graph as in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from headrace_data.spec import Variant, load_pipeline
from headrace_data.tasks.ranking import SCORE, Relevances, measures_of
from headrace_data.transforms import FittedTransform
from headrace_engines.model import run_in_batches
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import Answerer, open_graph
from headrace_learning.export import LARGEST_DIFFERENCE, export_graph
from headrace_learning.families import mlp
from headrace_learning.features import Feature
from headrace_learning.graphs import classes_of_graph, task_of_graph
from headrace_learning.heads import HEADS
from headrace_learning.heads.head import Learned
from headrace_learning.heads.ranking import ListSoftmax
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, Source
from headrace_learning.training.rows import Lists, Rows, joined

PIPELINE = load_pipeline(
    """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: shop}
stream:
  topic: shop
  schema:
    - {name: user, type: string, role: group}
    - {name: x, type: float32, shape: [4], role: feature}
    - {name: bought, type: int32, role: label}
train: {network: {kind: mlp, hidden: [16]}, task: ranking}
"""
)
FEATURE = Feature(FittedTransform("x", "none", np.zeros(4), np.ones(4)), "float32", (4,))


def learned(relevance: tuple[float, ...] = (0, 1)) -> Learned:
    seen = Relevances()
    seen.add(np.array([relevance, [5.0] * len(relevance)]).T)
    return HEADS["ranking"](PIPELINE, (), seen)


def lists(rows: int = 500) -> Lists:
    generator = np.random.default_rng(3)
    groups = generator.integers(0, 2**50, 40)[generator.integers(0, 40, rows)]
    relevance = generator.integers(0, 3, rows)
    truth = np.stack([relevance, groups], axis=1).astype(np.float64)
    made = learned().rows(torch.arange(rows, dtype=torch.float32).unsqueeze(1), learned().targets(truth))
    assert isinstance(made, Lists)
    return made


def test_the_loss_is_the_list_loss_that_is_measured() -> None:
    rows = lists()
    outputs = torch.randn(len(rows), 1, generator=torch.Generator().manual_seed(1)) * 5
    measured = measures_of(outputs.squeeze(1).numpy(), rows.targets.numpy())
    assert float(ListSoftmax().loss(outputs, rows.targets)) == pytest.approx(measured["list_loss"], rel=1e-5)
    assert ListSoftmax().measure(outputs, rows.targets) == measured


def test_only_the_order_within_a_list_is_learned_from() -> None:
    rows = lists()
    outputs = torch.randn(len(rows), 1, generator=torch.Generator().manual_seed(2)).requires_grad_()
    torch.autograd.backward(ListSoftmax().loss(outputs, rows.targets))
    assert outputs.grad is not None
    for number in rows.targets[:, 1].unique():
        assert float(outputs.grad[rows.targets[:, 1] == number].sum()) == pytest.approx(0.0, abs=1e-6)
    # Far scores overflow no exponential, and a list without an order adds nothing.
    far = torch.tensor([[3e4], [-3e4], [1.0], [2.0]], requires_grad=True)
    loss = ListSoftmax().loss(far, torch.tensor([[1.0, 7], [0, 7], [2, 8], [2, 8]], dtype=torch.float64))
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0.0
    assert far.grad is not None
    assert far.grad.tolist() == [[0.0], [0.0], [0.0], [0.0]]
    nothing = ListSoftmax().loss(far, torch.tensor([[1.0, 1], [1, 2], [1, 3], [0, 4]], dtype=torch.float64))
    torch.autograd.backward(nothing)
    assert float(nothing.detach()) == 0.0


def test_the_rows_of_a_list_are_in_one_batch_but_for_those_at_its_ends() -> None:
    rows = lists()
    batches = list(rows.batches(64, 1, 1))
    assert [len(batch) for batch in batches] == [64] * 7 + [52]
    assert torch.cat([batch.inputs[:, 0] for batch in batches]).sort().values.tolist() == list(range(500))
    numbers = torch.cat([batch.targets[:, 1] for batch in batches])
    assert int((numbers[1:] != numbers[:-1]).sum()) + 1 == len(numbers.unique()), "side by side"
    pieces = sum(len(batch.targets[:, 1].unique()) for batch in batches)
    assert pieces <= len(numbers.unique()) + len(batches) - 1


def test_the_order_of_lists_and_rows_follows_from_seed_and_epoch() -> None:
    rows = lists()
    order = rows.order(1, 1)
    assert order.tolist() == lists().order(1, 1).tolist()
    for other in (rows.order(1, 2), rows.order(2, 1)):
        assert rows.targets[order][:, 1].tolist() != rows.targets[other][:, 1].tolist(), "other lists first"
        of_one = rows.targets[:, 1] == rows.targets[0, 1]
        assert order[of_one[order]].tolist() != other[of_one[other]].tolist(), "and other rows of one"
    halves = [Lists(rows.inputs[:200], rows.targets[:200]), Lists(rows.inputs[200:], rows.targets[200:])]
    assert joined(halves).order(1, 1).tolist() == order.tolist()
    assert Rows(rows.inputs, rows.targets).order(1, 1).tolist() != order.tolist()


@pytest.mark.parametrize("weights", [1.0, 30.0])
def test_the_graph_answers_as_the_model_does(weights: float) -> None:
    torch.manual_seed(2)
    network = mlp.FAMILY.build(PIPELINE.train.network, (4,), 1)
    for parameter in network.parameters():
        parameter.data *= weights
    model, generator = learned().serve([FEATURE], (4,), network), np.random.default_rng(4)
    ends = np.array([0.0, -0.0, 1e-30, 1.0, -1.0, 30.0, 1e4, -1e4], np.float32)
    rows = {"x": np.concatenate([generator.normal(size=(300, 4)) * 5, generator.choice(ends, (200, 4))])}
    rows = {name: values.astype(np.float32) for name, values in rows.items()}
    exported = export_graph(model, (), rows)
    assert exported.difference <= LARGEST_DIFFERENCE
    answered = Answerer(exported.data).answers(rows)[SCORE]
    assert (answered.dtype, answered.shape) == (np.float32, (500,))
    assert task_of_graph(exported.data).kind == "ranking"
    assert classes_of_graph(exported.data) == []
    assert export_graph(model, (), rows).data == exported.data, "equal models give equal bytes"
    smaller = METHODS["int8-dynamic"].make(Source(exported.data), Variant(kind="int8-dynamic"))
    assert isinstance(smaller, Made)
    assert run_in_batches(open_graph(smaller.graph), rows, [SCORE])[0].shape == (500,)


def test_what_has_no_order_is_not_learned() -> None:
    with pytest.raises(NotLearnable, match=r"expected groups .field 'user'. with rows of different 'bought'"):
        learned((1, 1))
