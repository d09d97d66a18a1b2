"""Weights that are spread over processes: what each has goes on in another number of them."""

from functools import partial

import pytest
import torch
from headrace_data.spec import Compute, Train
from headrace_learning.errors import BrokenCheckpoint
from headrace_learning.training.checkpoint import Checkpoint, Cut, Shard, from_bytes, to_bytes
from headrace_learning.training.group import Group
from headrace_learning.training.loop import Training
from headrace_learning.training.objectives import Classification
from headrace_learning.training.optimizers import build_optimizer
from headrace_learning.training.parameters import OneVector, Shards
from headrace_learning.training.randomness import seed_weights
from headrace_learning.training.rows import Rows
from headrace_learning.training.spreading import Placed, refitted

WEIGHT = torch.arange(35.0).reshape(5, 7)
BIAS = torch.arange(3.0)


def shard(rank: int, size: int, dim: int = 0) -> Shard:
    """A part of the weight, cut as PyTorch does: the last parts are smaller, or empty."""
    total = WEIGHT.shape[dim]
    each = -(-total // size)
    start = min(rank * each, total)
    return Shard(rank, size, {"layer.weight": Cut(dim, start, min(each, total - start), total)})


def kept(part: Shard) -> Checkpoint:
    cut = part.cuts["layer.weight"]
    weights = {"layer.weight": WEIGHT.narrow(cut.dim, cut.start, cut.length), "layer.bias": BIAS}
    memory = {"mean/layer.weight": 2 * weights["layer.weight"], "mean/layer.bias": 2 * BIAS, "steps": torch.tensor(4.0)}
    checkpoint = Checkpoint("s", 2, weights, weights, 1, 0.5, memory, shard=part)
    return from_bytes(*to_bytes(checkpoint))


@pytest.mark.parametrize("before", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [1, 2, 3, 6])
def test_parts_go_on_in_another_number_of_processes(before: int, after: int) -> None:
    dim = 1 if (before, after) == (3, 2) else 0
    readers = [partial(kept, shard(rank, before, dim)) for rank in range(before)]
    for rank in range(after):
        own = shard(rank, after, dim)
        found = refitted(readers, own)
        assert found is not None
        expected = kept(own)
        assert found.tensors().keys() == expected.tensors().keys()
        assert all(torch.equal(tensor, expected.tensors()[name]) for name, tensor in found.tensors().items())
        assert (found.shard, found.place) == (own, (2, 0))


def test_parts_become_a_whole_and_parts_of_other_dimensions_are_none() -> None:
    readers = [partial(kept, shard(rank, 2)) for rank in range(2)]
    whole = refitted(readers, Shard(0, 1, {}))
    assert whole is not None
    assert torch.equal(whole.weights["layer.weight"], WEIGHT)
    assert torch.equal(whole.optimizer["mean/layer.weight"], 2 * WEIGHT)
    assert refitted([], shard(0, 2)) is None
    with pytest.raises(BrokenCheckpoint, match=r"cut along dimension 1, got 0"):
        refitted(readers, shard(0, 3, dim=1))


def learned(compute: Compute | None) -> dict[str, torch.Tensor]:
    inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    rows = Rows(inputs, (inputs[:, 0] > 0).long())
    optimizer = {"kind": "adamw", "clip": 0.1, "average": 0.9, "learningRate": 0.01}
    section = {"network": {"kind": "mlp"}, "epochs": 2, "batchSize": 16, "optimizer": optimizer, "compute": compute}
    settings = Train.model_validate({name: value for name, value in section.items() if value is not None})
    seed_weights(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    Training(network, settings, Classification(), rows, rows, "s", Nothing(), Nothing()).run()
    return network.state_dict()


class Nothing:
    """Keeps no checkpoint and tells nobody."""

    def newest(self, _subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.shard is None or checkpoint.shard == Shard(0, 1, {})

    def progress(self, step: int, steps: int, metrics: object, eta_s: float) -> None:
        pass


def test_one_alone_learns_the_same_from_parameters_apart_as_from_one_vector() -> None:
    vector, apart = learned(None), learned(Compute(device="cpu", processes=2, strategy="fsdp"))
    assert all(torch.allclose(vector[name], apart[name], atol=1e-6) for name in vector)


def test_what_is_kept_of_parameters_apart_is_by_their_names() -> None:
    layer, choice = torch.nn.Linear(3, 2), Train.model_validate({"network": {"kind": "mlp"}}).optimizer
    names = {parameter: name for name, parameter in layer.named_parameters()}
    hold = partial(Shards, names=names, group=Group())
    apart = build_optimizer([(layer.parameters(), 1.0)], choice, hold)
    apart.zero_grad()
    apart.step()  # without any gradient, as of a layer that had no say in the loss
    assert apart.memory().keys() == {"mean/weight", "mean/bias", "square/weight", "square/bias", "steps"}
    none = build_optimizer([((), 1.0)], choice, partial(Shards, names={}, group=Group(1, 2)))
    none.step()  # of a process that has no part of any weight, as each has one row
    assert none.memory().keys() == {"steps"}
    assert isinstance(Placed(layer, None, Group()).hold()([(layer.parameters(), 1.0)]), OneVector)
