"""Beginning from another version: its layers as far as they fit, and which of them are learned, and how fast.

A layer is a module with weights of its own. It is taken whole or not at all, but for two: the columns of the first one
are those of a row's inputs, and the rows of the last one those of the answers. There each name keeps what was learned
for it, so that a new category, feature or class costs no more than its own numbers, which come from the seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from headrace_data.spec import Train
from headrace_data.tasks.measure import Array
from headrace_data.transforms import FittedCategory, FittedTransforms
from torch import nn

from headrace_learning.errors import NotLearnable

Name = tuple[object, ...]
Scales = tuple[float | Array, float | Array]
"""A factor and a number: one for all outputs, or one for each, [outputs]."""
_SHOWN = 24
"""Layers that an error names."""


@dataclass(frozen=True)
class Names:
    """What the numbers along one side of a layer stand for: in the version that was, and in the one to come."""

    before: Sequence[Name]
    now: Sequence[Name]


@dataclass(frozen=True)
class Origin:
    """The version to begin from."""

    weights: Mapping[str, torch.Tensor]
    """By name, as the network's state has them."""
    inputs: Names
    """The values of a prepared row."""
    outputs: Names
    """The answers."""
    rescaled: Scales | None = None
    """Of a number that is answered, or one for each place of the label: by what its output is multiplied, and what is
    added then, so that it means the same number in the label's new deviations from its new mean."""


@dataclass(frozen=True)
class Begun:
    """What of a network came from another version, by the names of layers."""

    taken: tuple[str, ...]
    partly: tuple[str, ...]
    """Taken for the inputs, or answers, that both have."""
    seeded: tuple[str, ...]
    """Not taken: the seed's."""


def input_names(transforms: FittedTransforms) -> list[Name]:
    """Return what each value of a prepared row stands for."""
    names: list[Name] = []
    for fitted in transforms.features:
        places: list[object] = list(range(fitted.width))
        if isinstance(fitted, FittedCategory) and fitted.kind == "onehot":
            places[: len(fitted.categories)] = [f"={category}" for category in fitted.categories]
            places[len(fitted.categories) :] = ["others"] * fitted.rare
        names += [(fitted.name, fitted.kind, place) for place in places]
    return names


@torch.no_grad()
def begin(network: nn.Module, origin: Origin, train: Train) -> Begun:
    """Give a network the layers of the origin that fit. Raise `NotLearnable` where none does, or a frozen one does not.

    Its other weights stay as they are: the seed's.
    """
    layers = _layers(network)
    ends = (next(iter(layers)), next(reversed(layers)))
    found: dict[str, list[str]] = {"taken": [], "partly": [], "seeded": []}
    for name, tensors in layers.items():
        linear = isinstance(network.get_submodule(name), nn.Linear)
        sides = {1: origin.inputs} if linear and name == ends[0] else {}
        sides |= {0: origin.outputs} if linear and name == ends[1] and origin.outputs.now else {}
        found[_take(tensors, origin.weights, sides)].append(name)
    begun = Begun(*(tuple(names) for names in found.values()))
    last = network.get_submodule(ends[1])
    if origin.rescaled and ends[1] not in begun.seeded and isinstance(last, nn.Linear):
        _rescale(last, *origin.rescaled)
    if not (begun.taken or begun.partly):
        held = ", ".join(sorted(origin.weights)[:_SHOWN])
        raise NotLearnable(f"train.from: expected a version with a layer like one of {_listed(layers)}, got {held}")
    _require_known(layers, train)
    for name in (*begun.partly, *begun.seeded):
        if _meant(name, train.freeze):
            raise NotLearnable(
                f"train.freeze: expected layers that are those of train.from, got {name!r}, which is not"
            )
    return begun


def learned(network: nn.Module, train: Train) -> list[tuple[list[nn.Parameter], float]]:
    """Return the parameters that are learned, those with the same factor of the learning rate together.

    What `train.freeze` names learns no more, and what does not require gradients never does. Raise `NotLearnable` where
    nothing is left.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if _meant(name, train.freeze):
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        factor = train.rates[max(names, key=len)] if (names := _meant(name, train.rates)) else 1.0
        groups.setdefault(factor, []).append(parameter)
    if not groups:
        raise NotLearnable("train.freeze: expected a layer that is left to learn, got none")
    return [(parameters, factor) for factor, parameters in groups.items()]


def frozen(network: nn.Module) -> list[nn.Module]:
    """Return the modules that learn nothing although they have weights: what they count stands still too."""
    owners = [(module, list(module.parameters(recurse=False))) for module in network.modules()]
    return [module for module, own in owners if own and not any(each.requires_grad for each in own)]


def _rescale(last: nn.Linear, factor: float | Array, shift: float | Array) -> None:
    """Make the outputs of the last layer mean the same in another scale, where there is one output for each scale."""
    if last.out_features != np.size(factor):
        return
    factors, shifts = (torch.as_tensor(each, dtype=torch.float64).reshape(-1) for each in (factor, shift))
    last.weight.copy_(last.weight * factors.unsqueeze(1))
    if last.bias is not None:
        last.bias.copy_(last.bias * factors + shifts)


def _layers(network: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of each module that has its own, by the names of both."""
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        layers.setdefault(name.rpartition(".")[0], {})[name] = tensor
    return layers


def _take(tensors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], sides: Mapping[int, Names]) -> str:
    """Take a layer's tensors from the weights where all of them fit, and return how: taken, partly or seeded."""
    places = {name: _places(tensor, weights.get(name), sides) for name, tensor in tensors.items()}
    if None in places.values():
        return "seeded"
    changed = {name: found for name, found in places.items() if found}
    for name in tensors.keys() - changed.keys():
        tensors[name].copy_(weights[name])
    for name, found in changed.items():
        ours, theirs = (torch.meshgrid(*index, indexing="ij") for index in zip(*found, strict=True))
        tensors[name][ours] = weights[name][theirs].to(tensors[name].dtype)
    return "partly" if changed else "taken"


_Places = list[tuple[torch.Tensor, torch.Tensor]]


def _places(now: torch.Tensor, before: torch.Tensor | None, sides: Mapping[int, Names]) -> _Places | None:
    """Return which places of each side come from which: none where all do from the same, None where it does not fit."""
    if before is None or before.ndim != now.ndim:
        return None
    found: _Places = []
    for side, (size, old_size) in enumerate(zip(now.shape, before.shape, strict=True)):
        names = sides.get(side)
        if names is None or (len(names.now), len(names.before)) != (size, old_size):
            if size != old_size:
                return None
            found.append((torch.arange(size), torch.arange(size)))
            continue
        place_of = {name: place for place, name in enumerate(names.before)}
        shared = [place for place, name in enumerate(names.now) if name in place_of]
        if not shared:
            return None
        found.append((torch.tensor(shared), torch.tensor([place_of[names.now[place]] for place in shared])))
    sizes = tuple(len(ours) for ours, _ in found)
    same = sizes == tuple(now.shape) == tuple(before.shape) and all(torch.equal(*pair) for pair in found)
    return [] if same else found


def _meant(name: str, told: Iterable[str]) -> list[str]:
    return [each for each in told if name == each or name.startswith(f"{each}.")]


def _require_known(layers: Mapping[str, object], train: Train) -> None:
    for place, told in (("freeze", train.freeze), ("rates", train.rates)):
        for name in told:
            if not any(_meant(layer, [name]) for layer in layers):
                raise NotLearnable(f"train.{place}: expected layers among {_listed(layers)}, got {name!r}")


def _listed(layers: Iterable[str]) -> str:
    names = list(layers)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
