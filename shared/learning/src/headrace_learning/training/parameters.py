"""The parameters that an optimiser moves: one vector where they are all here, or this process's shards of each."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from headrace_learning.networks import local
from headrace_learning.training.group import Group

Learned = tuple[Iterable[torch.nn.Parameter], float]
"""Parameters, and by what the learning rate is multiplied for them."""


@dataclass(frozen=True)
class Vector:
    """A number for each parameter that is held here."""

    parts: Sequence[torch.Tensor]
    """In the order of `Parameters.weights`."""
    held: Mapping[str, torch.Tensor]
    """The same by what is added to the vector's name where it is kept."""


class Parameters(ABC):
    """What is moved together."""

    weights: Sequence[torch.Tensor]
    """Weights in parts, each moved by a kernel of its own. They are changed in place."""
    factors: Sequence[float]
    """By what the learning rate is multiplied for each part."""
    device: torch.device
    """Where they are."""

    @abstractmethod
    def gradients(self) -> Sequence[torch.Tensor]:
        """Return the gradients of the weights, which may be changed in place."""

    @abstractmethod
    def forget(self) -> None:
        """Forget the gradients."""

    @abstractmethod
    def vector(self, make: Callable[[torch.Tensor], torch.Tensor]) -> Vector:
        """Return a vector that `make` makes of weights, such as zeros of the same shape."""

    @abstractmethod
    def combine(self, add_up: Callable[[torch.Tensor], None]) -> None:
        """Make of the gradients what `add_up` makes of tensors in place, where each process has its own."""

    @abstractmethod
    def norm(self) -> float:
        """Return the norm of all gradients together."""

    @abstractmethod
    def are_finite(self) -> bool:
        """Return whether all gradients are, those of other processes too."""


class OneVector(Parameters):
    """Takes parameters over: they become views of one vector, so that a step is one kernel however many there are."""

    def __init__(self, groups: Sequence[Learned]) -> None:
        owned = [list(parameters) for parameters, _ in groups]
        owners = [owner for parameters in owned for owner in parameters]
        self._sizes = [sum(owner.numel() for owner in parameters) for parameters in owned]
        self._vector = torch.cat([owner.detach().reshape(-1) for owner in owners])
        self._gradients = torch.zeros_like(self._vector)
        start = 0
        for owner in owners:
            end = start + owner.numel()
            owner.data = self._vector[start:end].view_as(owner)
            owner.grad = self._gradients[start:end].view_as(owner)
            start = end
        self.weights = self._of_groups(self._vector)
        self.factors = [factor for _, factor in groups]
        self.device = self._vector.device
        self._parts = self._of_groups(self._gradients)

    def gradients(self) -> Sequence[torch.Tensor]:
        """Return the gradients of each group."""
        return self._parts

    def forget(self) -> None:
        """Make them zero; they stay where they are."""
        self._gradients.zero_()

    def vector(self, make: Callable[[torch.Tensor], torch.Tensor]) -> Vector:
        """Return a vector of all of them."""
        whole = make(self._vector)
        return Vector(self._of_groups(whole), {"": whole})

    def combine(self, add_up: Callable[[torch.Tensor], None]) -> None:
        """Add up one vector."""
        add_up(self._gradients)

    def norm(self) -> float:
        """Return the norm of the vector."""
        return float(torch.linalg.vector_norm(self._gradients))

    def are_finite(self) -> bool:
        """Return whether all are; processes that add them up have the same."""
        return bool(self._gradients.isfinite().all())

    def _of_groups(self, vector: torch.Tensor) -> Sequence[torch.Tensor]:
        return torch.split(vector, self._sizes) if len(self._sizes) > 1 else [vector]


class Shards(Parameters):
    """What this process has of parameters that are spread over several: parts of most, and all of the others."""

    def __init__(self, groups: Sequence[Learned], names: Mapping[torch.nn.Parameter, str], group: Group) -> None:
        """`names` are those of the parameters in their network."""
        held = [(owner, factor) for parameters, factor in groups for owner in parameters if local(owner).numel()]
        self._owners = [owner for owner, _ in held]
        self._names = [names[owner] for owner in self._owners]
        self._group = group
        self.weights = [local(owner.detach()) for owner in self._owners]
        self.factors = [factor for _, factor in held]
        self.device = self.weights[0].device if self.weights else group.device

    def gradients(self) -> Sequence[torch.Tensor]:
        """Return the gradients of each part; of one that had no say in the loss zeros."""
        for owner in self._owners:
            if owner.grad is None:
                owner.grad = torch.zeros_like(owner)
        return [local(gradient) for owner in self._owners if (gradient := owner.grad) is not None]

    def forget(self) -> None:
        """Give their memory back."""
        for owner in self._owners:
            owner.grad = None

    def vector(self, make: Callable[[torch.Tensor], torch.Tensor]) -> Vector:
        """Return a tensor for each part."""
        parts = [make(weight) for weight in self.weights]
        return Vector(parts, {f"/{name}": part for name, part in zip(self._names, parts, strict=True)})

    def combine(self, _add_up: Callable[[torch.Tensor], None]) -> None:
        """Do nothing: PyTorch has added them up where they are needed."""

    def norm(self) -> float:
        """Return the norm over all processes: what is whole in each of them counts once."""
        squares = {True: 0.0, False: 0.0}
        for owner, gradient in zip(self._owners, self.gradients(), strict=True):
            squares[is_cut(owner)] += float(torch.linalg.vector_norm(gradient)) ** 2
        return math.sqrt(self._group.sum(squares[True]) + squares[False])

    def are_finite(self) -> bool:
        """Return whether those of all processes are."""
        return self._group.sum(float(not all(bool(each.isfinite().all()) for each in self.gradients()))) == 0


def is_cut(tensor: torch.Tensor) -> bool:
    """Return whether a process has a part of a tensor alone."""
    placements: Any = getattr(tensor, "placements", ())
    return any(placement.is_shard() for placement in placements)
