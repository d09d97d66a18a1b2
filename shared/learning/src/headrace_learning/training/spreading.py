"""A network whose weights are spread over the processes that train it, so that none holds all of them.

`fsdp`: each process keeps a part of every weight and learns from its own rows; a block's weights are brought together
while it computes. Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (VLDB 2023), in the
form of `torch.distributed.fsdp.fully_shard`. `tensor`: each process computes a part of every layer, of the same rows.
Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism" (2019), section
3, by `torch.distributed.tensor.parallel`. Both are imported where they are used: they take seconds.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch
from headrace_data.spec import Compute
from torch import nn

from headrace_learning.errors import BrokenCheckpoint, NotLearnable
from headrace_learning.networks import load_learned, local
from headrace_learning.training.checkpoint import Checkpoint, Cut, Shard
from headrace_learning.training.compute import CPU
from headrace_learning.training.group import Group
from headrace_learning.training.parameters import Learned, OneVector, Parameters, Shards
from headrace_learning.training.ports import Checkpoints, ShardedCheckpoints

WHOLE: Final = "ddp"
"""The strategy by which each process has all weights."""


class Placed:
    """A network as this process learns it."""

    def __init__(self, network: nn.Module, compute: Compute | None, group: Group) -> None:
        """Spread the network where the strategy says so: `network` is empty from then on, until `bring_back`."""
        strategy = WHOLE if compute is None else compute.strategy
        self._caller = network
        self._group = group
        self._in_shards = strategy != WHOLE
        self._is_spread = self._in_shards and group.size > 1
        self.rows = Group() if strategy == "tensor" else group
        """The processes that share the rows of a batch: this one alone where each computes a part of every row."""
        self.learner = _SPREAD[strategy](_taken(network), group) if self._is_spread else network
        """What learns in this process."""
        self.gain = float(group.size) if strategy == "fsdp" else 1.0
        """By what the loss is multiplied: `fully_shard` divides sums of gradients by the number of processes."""

    def hold(self) -> Callable[[Sequence[Learned]], Parameters]:
        """Return in what form an optimiser moves the parameters."""
        if not self._in_shards:
            return OneVector
        names = {parameter: name for name, parameter in self.learner.named_parameters()}
        return partial(Shards, names=names, group=self._group)

    @property
    def shard(self) -> Shard | None:
        """Return which part of the weights this process has, be it all; None where each process always has all."""
        if not self._in_shards:
            return None
        held = self.learner.state_dict().items()
        cuts = {name: cut for name, tensor in held if (cut := _cut_of(tensor, self._group.rank)) is not None}
        return Shard(self._group.rank, self._group.size, cuts)

    def newest(self, checkpoints: Checkpoints, subject: str) -> Checkpoint | None:
        """Return the newest checkpoint of a subject, as far as this process has it; None if there is none."""
        if (own := self.shard) is None:
            return checkpoints.newest(subject)
        return refitted(checkpoints.shards(subject), own) if isinstance(checkpoints, ShardedCheckpoints) else None

    def bring_back(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Give the network that was handed in the weights, which `learned_of` had, on the CPU.

        Of one that is spread these are parts, and processes that do not lead have an empty network then.
        """
        self._caller.eval()
        if not self._is_spread:
            load_learned(self._caller.to(CPU), weights)
            return
        whole: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for name, held in self.learner.state_dict().items():
                local(held).copy_(weights.get(name, local(held)))
                tensor = held.full_tensor().cpu() if hasattr(held, "full_tensor") else held.cpu()
                if self._group.leads:
                    whole[name] = tensor.clone()
        if self._group.leads:
            self._caller.load_state_dict(whole, assign=True)
            buffers = dict(self.learner.named_buffers())
            for name, buffer in list(self._caller.named_buffers()):
                if buffer.is_meta:  # one that is not kept with the weights
                    owner, _, last = name.rpartition(".")
                    self._caller.get_submodule(owner).register_buffer(last, buffers[name].cpu(), persistent=False)


def _taken(network: nn.Module) -> nn.Module:
    """Return the same layers with the same tensors, which the network that is handed in has no more."""
    tensors: list[torch.Tensor] = [*network.parameters(), *network.buffers()]
    taken = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    network.to("meta")
    return taken


def _cut_of(tensor: Any, rank: int) -> Cut | None:
    """Return which part of a tensor this process has: PyTorch cuts as `torch.chunk` does, the last ones are smaller."""
    dims = [placement.dim for placement in getattr(tensor, "placements", ()) if placement.is_shard()]
    if not dims:
        return None
    (dim,), total = dims, tensor.shape[dims[0]]
    each = -(-total // tensor.device_mesh.size())
    return Cut(dim, min(rank * each, total), tensor.to_local().shape[dim], total)


def _mesh(group: Group) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(group.device.type, (group.size,))


def _fully_sharded(network: nn.Module, group: Group) -> nn.Module:
    """Cut every weight along its first dimension, block by block."""
    from torch.distributed.fsdp import fully_shard

    shard: Any = partial(fully_shard, mesh=_mesh(group), reshard_after_forward=True)
    for block in _blocks(network):
        shard(block)
    shard(network)
    return network


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts whose weights are brought together at once: members of lists and sequences that have some."""
    for child in network.children():
        nested = any(isinstance(module, nn.Sequential | nn.ModuleList) for module in child.modules())
        if nested:
            yield from _blocks(child)
        elif isinstance(network, nn.Sequential | nn.ModuleList) and any(True for _ in child.parameters()):
            yield child


def _tensor_parallel(network: nn.Module, group: Group) -> nn.Module:
    """Cut layers in pairs: the first by its outputs, the second by its inputs, so that one sum follows both."""
    from torch.distributed.tensor.parallel import parallelize_module

    plan = dict(_plan(network, group.size))
    if not plan:
        raise NotLearnable(
            f"train.compute.strategy: tensor expects widths of layers, and heads of attention, that {group.size} "
            "processes can share evenly, got none; change the widths, or write fsdp"
        )
    parallel: Any = parallelize_module
    parallel(network, _mesh(group), plan)
    return network


def _plan(network: nn.Module, size: int) -> Iterator[tuple[str, Any]]:
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

    layers = dict(network.named_modules())
    for first, second in _pairs(layers, size):
        yield from ((name, ColwiseParallel()) for name in first)
        yield second, RowwiseParallel()
    for name, layer in layers.items():
        if isinstance(layer, nn.Embedding) and layer.embedding_dim % size == 0:
            yield name, ColwiseParallel(output_layouts=Replicate())


def _pairs(layers: Mapping[str, nn.Module], size: int) -> Iterator[tuple[list[str], str]]:
    """Yield names of layers that take the same rows, and of the one behind them, whose inputs are their outputs."""
    for name, module in layers.items():
        if isinstance(module, nn.Sequential):
            linear = [
                f"{name}.{place}".lstrip(".") for place, each in module.named_children() if isinstance(each, nn.Linear)
            ]
            yield from (
                ([one], other)
                for one, other in zip(linear[::2], linear[1::2], strict=False)
                if _even(layers, one, size)
            )
        elif name.endswith(".attention.self"):
            heads: Any = getattr(module, "num_attention_heads", 0)
            inputs = [f"{name}.{each}" for each in ("query", "key", "value")]
            if heads % size == 0 and all(isinstance(layers.get(each), nn.Linear) for each in inputs):
                yield inputs, f"{name.removesuffix('.self')}.output.dense"
        elif name.endswith(".intermediate.dense") and _even(layers, name, size):
            yield [name], f"{name.removesuffix('.intermediate.dense')}.output.dense"


def _even(layers: Mapping[str, nn.Module], name: str, size: int) -> bool:
    layer = layers[name]
    return isinstance(layer, nn.Linear) and layer.out_features % size == 0


_SPREAD: Final[Mapping[str, Callable[[nn.Module, Group], nn.Module]]] = {
    "fsdp": _fully_sharded,
    "tensor": _tensor_parallel,
}


def refitted(readers: Sequence[Callable[[], Checkpoint]], own: Shard) -> Checkpoint | None:
    """Return this process's part of a checkpoint of which each reader reads that of one process; None without any.

    There may have been another number of them: one part after another is in memory then.
    """
    if not readers:
        return None
    if len(readers) == own.size:
        return readers[own.rank]()
    found: dict[str, torch.Tensor] = {}
    for read in readers:
        checkpoint = read()
        if checkpoint.shard is not None:
            _fit(found, checkpoint.tensors(), checkpoint.shard, own)
    return checkpoint.with_tensors(found, own)


def _fit(found: dict[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], theirs: Shard, own: Shard) -> None:
    """Copy what is wanted here of tensors that another process had."""
    for name, tensor in tensors.items():
        there, here = theirs.cut_of(name), own.cut_of(name)
        known = there or here
        if known is None:
            found.setdefault(name, tensor)
            continue
        dim, whole = known.dim, Cut(known.dim, 0, known.total, known.total)
        there, here = there or whole, here or whole
        if there.dim != here.dim:
            raise BrokenCheckpoint(f"checkpoint: expected {name} cut along dimension {here.dim}, got {there.dim}")
        shape = [*tensor.shape[:dim], here.length, *tensor.shape[dim + 1 :]]
        target = found.setdefault(name, torch.empty(shape, dtype=tensor.dtype))
        first, end = max(here.start, there.start), min(here.start + here.length, there.start + there.length)
        if first < end:
            part = tensor.narrow(dim, first - there.start, end - first)
            target.narrow(dim, first - here.start, end - first).copy_(part)
