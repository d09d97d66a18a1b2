"""What training takes of memory, and what does not fit is refused before anything is built."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.spec import Budget, CnnNetwork, MlpNetwork, Optimizer, Pipeline, ResidualNetwork, Train
from headrace_data.spec.network_size import count_parameters, row_values
from headrace_learning import networks
from headrace_learning.families import cnn, mlp, residual
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.adapters.checkpoints import StoredCheckpoints
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, run
from headrace_trainer.errors import DoesNotFit


class Steps:
    """Remembers which epochs were reported."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def progress(self, step: int, *_rest: Any) -> None:
        self.seen.append(step)


def train(network: MlpNetwork | CnnNetwork, kind: Any = "adam", batch_size: int = 64) -> Train:
    return Train(network=network, optimizer=Optimizer(kind=kind), batch_size=batch_size)


@pytest.mark.parametrize("hidden", [(), (7,), (64, 32)])
def test_parameters_are_counted_as_the_networks_have_them(hidden: tuple[int, ...]) -> None:
    perceptron = MlpNetwork(kind="mlp", hidden=hidden)
    built = mlp.mlp(5, hidden, 3)
    assert count_parameters(perceptron, (5,), 3) == networks.count_parameters(built)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9), (1, 3, 28), (1, 2, 2)])
def test_parameters_of_convolutions_too(shape: tuple[int, int, int]) -> None:
    image = CnnNetwork(kind="cnn", channels=(2, 3, 5), hidden=(6,))
    assert count_parameters(image, shape, 4) == networks.count_parameters(cnn.cnn(shape, (2, 3, 5), (6,), 4))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9), (1, 3, 28), (1, 2, 2), (1, 1, 2)])
@pytest.mark.parametrize(("channels", "blocks"), [((2, 3, 5), 2), ((4, 4), 1), ((3,), 3)])
def test_parameters_and_values_of_residual_networks_too(
    shape: tuple[int, int, int], channels: tuple[int, ...], blocks: int
) -> None:
    section = ResidualNetwork(kind="residual", channels=channels, blocks=blocks)
    network = residual.FAMILY.build(section, shape, 4)
    assert count_parameters(section, shape, 4) == networks.count_parameters(network)
    given = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, output: given.append(output[0].numel()))
    network.eval()
    network(torch.zeros(1, *shape))
    assert sum(given) <= sum(row_values(section, shape, 4)) <= 3 * (sum(given) + math.prod(shape))


@pytest.mark.parametrize(("kind", "copies"), [("sgd", 8), ("momentum", 12), ("adam", 16)])
def test_copies_of_the_parameters(kind: str, copies: int) -> None:
    linear = train(MlpNetwork(kind="mlp", hidden=()), kind)
    assert mlp.FAMILY.least_bytes(linear, (1_000_000,), 1, (0, 0), 0) == 4 * copies * 1_000_001


@pytest.mark.parametrize(("kind", "copies"), [("sgd", 4), ("momentum", 6), ("adam", 8)])
def test_checkpoints_of_large_networks_are_no_bytes_in_memory(kind: str, copies: int) -> None:
    linear = train(MlpNetwork(kind="mlp", hidden=()), kind)
    assert mlp.FAMILY.least_bytes(linear, (100_000_000,), 1, (0, 0), 0) == 4 * copies * 100_000_001


def test_rows_and_what_they_leave_in_the_layers() -> None:
    wide = train(MlpNetwork(kind="mlp", hidden=(1_000_000,)), batch_size=10)
    parameters = 4 * 16 * 3_000_001
    assert mlp.FAMILY.least_bytes(wide, (1,), 1, (100, 0), 400) == parameters + 4 * (100 + 10 * 1_000_002)
    # Validation takes many rows at once, whatever the batch is.
    assert mlp.FAMILY.least_bytes(wide, (1,), 1, (100, 5000), 4 * 5100) == parameters + 4 * (5100 + 4096 * 1_000_001)


def test_what_does_not_fit_is_refused_before_it_is_built(
    digits: Pipeline, freeze: Callable[[Pipeline], Manifest], store: ObjectStore
) -> None:
    huge = digits.train.model_copy(update={"network": MlpNetwork(kind="mlp", hidden=(1_000_000, 1_000_000))})
    pipeline = digits.model_copy(update={"train": huge})
    dataset = freeze(pipeline)
    steps = Steps()
    plan = Plan("run", pipeline, dataset)
    with pytest.raises(
        DoesNotFit, match=r"8,000 MB .* got 1,000,\d{3},\d{3},\d{3} parameters and .* 32,\d{3},\d{3} MB"
    ):
        run(
            plan,
            DatasetReader(dataset, store),
            StoredCheckpoints(store, "run", "runs/run/attempt-1/", 0),
            steps,
            Memory(8 * 10**9),
        )
    assert steps.seen == []


def test_a_budget_of_memory_counts_like_memory_that_is_not_there(
    digits: Pipeline, freeze: Callable[[Pipeline], Manifest], store: ObjectStore
) -> None:
    budget = Budget.model_validate({"memory": "1MiB"})
    pipeline = digits.model_copy(update={"train": digits.train.model_copy(update={"budget": budget})})
    dataset = freeze(pipeline)
    with pytest.raises(DoesNotFit, match=r"at most the 1 MB of memory.*raise train\.budget\.memory"):
        run(
            Plan("run", pipeline, dataset),
            DatasetReader(dataset, store),
            StoredCheckpoints(store, "run", "runs/run/attempt-1/", 0),
            Steps(),
            Memory(8 * 10**9),
        )
