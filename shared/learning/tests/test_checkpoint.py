import json
import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from headrace_learning.errors import BrokenCheckpoint, NotLearnable
from headrace_learning.families.mlp import mlp
from headrace_learning.networks import weights_of
from headrace_learning.training.checkpoint import Checkpoint, Midway, from_bytes, tensors_to_bytes, to_bytes
from headrace_learning.training.optimizers import KINDS, Optimizer, build_optimizer, remembered_vectors


def _choice(kind: str, decay: float = 0.001, **more: float) -> SimpleNamespace:
    nothing = {"clip": None, "average": None}
    return SimpleNamespace(kind=kind, learning_rate=0.05, momentum=0.9, weight_decay=decay, **nothing | more)


def _steps(network: torch.nn.Module, optimizer: Optimizer | torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        network(torch.randn(8, 4)).pow(2).sum().backward()
        optimizer.step()


def _equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_ends_where_one_without_a_stop_does(kind: str) -> None:
    torch.manual_seed(0)
    straight, stopped, resumed = (mlp(4, [5], 3) for _ in range(3))
    stopped.load_state_dict(straight.state_dict())
    optimizer = build_optimizer([(straight.parameters(), 1.0)], _choice(kind))
    _steps(straight, optimizer, range(10))

    optimizer = build_optimizer([(stopped.parameters(), 1.0)], _choice(kind))
    _steps(stopped, optimizer, range(4))
    checkpoint = Checkpoint("s", 4, weights_of(stopped), weights_of(stopped), 2, 0.5, optimizer.memory())
    read = from_bytes(*to_bytes(checkpoint))
    resumed.load_state_dict(read.weights)
    optimizer = build_optimizer([(resumed.parameters(), 1.0)], _choice(kind))
    optimizer.restore(read.optimizer)
    _steps(resumed, optimizer, range(4, 10))

    assert (read.subject, read.epoch, read.best_epoch, read.best_loss) == ("s", 4, 2, 0.5)
    assert _equal(weights_of(resumed), weights_of(straight))
    assert not _equal(weights_of(resumed), weights_of(stopped))


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("sgd", lambda weights, decay: torch.optim.SGD(weights, lr=0.05, weight_decay=decay)),
        ("momentum", lambda weights, decay: torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=decay)),
        ("adam", lambda weights, decay: torch.optim.Adam(weights, lr=0.05, weight_decay=decay)),
        ("adamw", lambda weights, decay: torch.optim.AdamW(weights, lr=0.05, weight_decay=decay)),
    ],
)
def test_an_optimiser_moves_weights_as_that_of_pytorch_does(
    kind: str, reference: Callable[..., torch.optim.Optimizer], decay: float
) -> None:
    torch.manual_seed(0)
    ours, theirs = mlp(4, [5], 3), mlp(4, [5], 3)
    theirs.load_state_dict(ours.state_dict())

    _steps(ours, build_optimizer([(ours.parameters(), 1.0)], _choice(kind, decay)), range(30))
    _steps(theirs, reference(theirs.parameters(), decay), range(30))

    for name, weights in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weights, atol=1e-6, rtol=1e-5)


def test_the_kinds_of_optimiser_move_weights_differently() -> None:
    ends = []
    for kind in KINDS:
        torch.manual_seed(0)
        network = mlp(4, [5], 3)
        _steps(network, build_optimizer([(network.parameters(), 1.0)], _choice(kind)), range(3))
        ends.append(tensors_to_bytes(weights_of(network)))

    assert len(set(ends)) == len(KINDS)
    with pytest.raises(NotLearnable, match="expected one of sgd, momentum, adam, adamw, got 'lion'"):
        build_optimizer([(network.parameters(), 1.0)], _choice("lion"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("average", [None, 0.9])
def test_what_an_optimiser_remembers_is_what_is_counted(kind: str, average: float | None) -> None:
    network = mlp(4, [5], 3)
    choice = _choice(kind) if average is None else _choice(kind, average=average)
    optimizer = build_optimizer([(network.parameters(), 1.0)], choice)
    size = sum(weights.numel() for weights in network.parameters())
    assert sum(tensor.numel() == size for tensor in optimizer.memory().values()) == remembered_vectors(choice)


def test_gradients_are_scaled_down_to_the_norm_that_they_may_have() -> None:
    torch.manual_seed(0)
    ours, theirs = mlp(4, [5], 3), mlp(4, [5], 3)
    theirs.load_state_dict(ours.state_dict())
    reference = torch.optim.SGD(theirs.parameters(), lr=0.05)
    _steps(ours, build_optimizer([(ours.parameters(), 1.0)], _choice("sgd", 0.0, clip=0.5)), range(3))
    for step in range(3):
        torch.manual_seed(step)
        reference.zero_grad()
        theirs(torch.randn(8, 4)).pow(2).sum().backward()
        assert float(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)) > 0.5
        reference.step()
    for name, weights in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weights, atol=1e-5, rtol=1e-4)


def test_the_average_follows_the_weights_and_gives_their_place_back() -> None:
    torch.manual_seed(0)
    network = mlp(4, [5], 3)
    expected = weights_of(network)
    optimizer = build_optimizer([(network.parameters(), 1.0)], _choice("adam", average=0.25))
    for step in range(6):
        _steps(network, optimizer, range(step, step + 1))
        kept = min(0.25, (1 + step) / (10 + step))
        expected = {name: kept * expected[name] + (1 - kept) * weights for name, weights in weights_of(network).items()}
    own = weights_of(network)
    with optimizer.averaged():
        averaged = weights_of(network)
    assert _equal(weights_of(network), own)
    for name, weights in expected.items():
        torch.testing.assert_close(averaged[name], weights, atol=1e-6, rtol=1e-5)


def test_a_checkpoint_that_is_not_whole_is_refused() -> None:
    tensor = {"w": torch.ones(3)}
    data, sidecar = to_bytes(Checkpoint("s", 1, tensor, tensor, 1, 0.1, {}))
    values = json.loads(sidecar)

    for broken in (
        (data[:-1], sidecar),
        (data, sidecar[:-1]),
        (data, b"[]"),
        (data, json.dumps({**values, "format": "other"}).encode()),
        (data, json.dumps({key: value for key, value in values.items() if key != "epoch"}).encode()),
    ):
        with pytest.raises(BrokenCheckpoint):
            from_bytes(*broken)


def test_a_checkpoint_of_before_is_read() -> None:
    tensor = {"w": torch.ones(3)}
    data, sidecar = to_bytes(Checkpoint("s", 1, tensor, tensor, 1, 0.1, {}))
    values = json.loads(sidecar) | {"format": "headrace-checkpoint/2"}
    del values["midway"]

    read = from_bytes(data, json.dumps(values).encode())

    assert (read.place, read.best_loss, read.midway) == ((1, 0), 0.1, None)


def test_a_checkpoint_within_the_first_epoch_knows_no_best_loss() -> None:
    tensor = {"w": torch.ones(3)}
    midway = Midway(7, 12.5, torch.get_rng_state())

    read = from_bytes(*to_bytes(Checkpoint("s", 0, tensor, tensor, 0, math.inf, {}, midway)))

    assert (read.place, read.best_epoch, read.best_loss) == ((0, 7), 0, math.inf)
    assert read.midway is not None
    assert read.midway.loss == 12.5
    assert torch.equal(read.midway.generator, midway.generator)


def test_the_bytes_of_tensors_do_not_depend_on_their_order() -> None:
    one, two = torch.ones(2), torch.zeros(3)

    assert tensors_to_bytes({"a": one, "b": two}) == tensors_to_bytes({"b": two, "a": one})
