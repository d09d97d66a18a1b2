"""A factorisation machine sums over every pair, and answers pairs that it has not seen."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from headrace_data.spec.networks import FactorizationMachine
from headrace_engines.model import run_in_batches
from headrace_learning.evaluation import open_graph
from headrace_learning.families import FAMILIES, mlp
from headrace_learning.families.factorization import FAMILY, Pairs
from headrace_learning.networks import count_parameters
from headrace_learning.writer import OPSET, Writer
from onnx import helper
from torch import nn


def test_pairs_are_the_sum_over_every_two_values() -> None:
    torch.manual_seed(4)
    pairs, rows = Pairs(7, 3), torch.randn(5, 7)
    factors, linear = pairs.both.weight.T.split(3, dim=1)
    expected = rows @ linear + pairs.both.bias[3:]
    for one, other in combinations(range(7), 2):
        expected = expected + (rows[:, one] * rows[:, other]).unsqueeze(1) * factors[one] * factors[other]
    torch.testing.assert_close(pairs(rows), expected)


def test_a_value_far_out_counts_in_pairs_as_one_that_is_less_far() -> None:
    torch.manual_seed(4)
    pairs = Pairs(2, 3)
    nn.init.zeros_(pairs.both.weight[3:])
    far, less = (pairs(torch.tensor([[value, 2.0]])) for value in (1e30, 16.0))
    torch.testing.assert_close(far, less)


@pytest.mark.parametrize("outputs", [1, 3])
def test_what_it_learns_is_counted_beforehand(outputs: int) -> None:
    section = FactorizationMachine(kind="factorization", factors=5)
    built = FAMILY.build(section, (11,), outputs)
    assert count_parameters(built) == FAMILIES["factorization"].parameters(section, (11,), outputs)


def test_pairs_that_no_row_had_follow_from_others() -> None:
    """Each of 30 visitors has seen half of 20 offers; what they think of the others is asked for."""
    random = np.random.default_rng(2)
    tastes, kinds = random.normal(size=(30, 2)), random.normal(size=(20, 2))
    visitors, offers = (each.ravel() for each in np.indices((30, 20)))
    liked = torch.from_numpy((tastes @ kinds.T).ravel().astype(np.float32))
    rows = torch.from_numpy(np.concatenate([np.eye(30)[visitors], np.eye(20)[offers]], axis=1).astype(np.float32))
    seen = torch.from_numpy(random.permutation(600) < 400)

    def error(network: nn.Module) -> float:
        optimiser = torch.optim.AdamW(network.parameters(), 0.05, weight_decay=0.02)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.mse_loss(network(rows[seen]).squeeze(1), liked[seen]).backward()
            optimiser.step()
        with torch.no_grad():
            return float(nn.functional.mse_loss(network(rows[~seen]).squeeze(1), liked[~seen]) / liked.var())

    torch.manual_seed(1)
    machine = error(FAMILY.build(FactorizationMachine(kind="factorization", factors=4), (50,), 1))
    layers = error(mlp.mlp(50, (128, 64), 1))
    assert machine < 0.1 < 0.25 < layers


def test_many_values_far_out_keep_the_digits_of_what_they_make_together() -> None:
    """The squares that are subtracted from each other are fifty times what is between them."""
    torch.manual_seed(4)
    pairs = Pairs(200, 2).eval()
    nn.init.uniform_(pairs.both.weight[:2], 0.99, 1.01)
    signs = torch.cat([torch.ones(107), -torch.ones(93)])
    rows = torch.stack([16 * signs, 16 * signs * torch.linspace(0.99, 1.0, 200)])
    weights = pairs.both.weight.detach().double()
    exact = (rows.double() @ weights[:2].T).square() - rows.double().square() @ weights[:2].T.square()
    expected = exact / 2 + torch.nn.functional.linear(rows.double(), weights[2:])
    with torch.no_grad():
        answers = pairs(rows)
    torch.testing.assert_close(answers.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.from_numpy(_written(pairs, rows.numpy())), answers, rtol=1e-6, atol=0)


def _written(pairs: Pairs, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what ONNX Runtime makes of the rows by the graph that the pairs write."""
    writer = Writer()
    answer = pairs.write(writer, "rows")
    shapes = {"rows": ["batch", rows.shape[1]], answer: ["batch", pairs.outputs]}
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(writer.nodes, "pairs", values[:1], values[1:], list(writer.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    (answers,) = run_in_batches(open_graph(model.SerializeToString()), {"rows": rows}, [answer])
    return answers
