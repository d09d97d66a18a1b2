"""The optimisers that a pipeline can ask for.

The arithmetic is PyTorch's, by the functions that the classes of `torch.optim` call: the classes themselves import a
compiler at the first step, which takes seconds of every run and 150 MB. All parameters are one vector, of which the
network's are views, so a step is one kernel however many layers there are.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from headrace_learning.errors import NotLearnable

Memory = Mapping[str, torch.Tensor]
"""What an optimiser remembers from step to step, by name."""


class OptimizerChoice(Protocol):
    """What a pipeline says under train.optimizer."""

    @property
    def kind(self) -> str:
        """One of sgd, momentum and adam."""

    @property
    def learning_rate(self) -> float:
        """Step size."""

    @property
    def momentum(self) -> float:
        """Share of the last step that is kept; for the kind momentum only."""

    @property
    def weight_decay(self) -> float:
        """Strength of the pull of every weight towards zero (an L2 penalty)."""


class Optimizer(ABC):
    """Moves parameters against their gradients. Takes the parameters over: they become views of one vector."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], choice: OptimizerChoice) -> None:
        owners = list(parameters)
        self._choice = choice
        self._weights = torch.cat([owner.detach().reshape(-1) for owner in owners])
        self._gradients = torch.zeros_like(self._weights)
        start = 0
        for owner in owners:
            end = start + owner.numel()
            owner.data = self._weights[start:end].view_as(owner)
            owner.grad = self._gradients[start:end].view_as(owner)
            start = end

    def zero_grad(self) -> None:
        """Forget the gradients; they stay where they are."""
        self._gradients.zero_()

    @abstractmethod
    def step(self) -> None:
        """Move the parameters once."""

    def memory(self) -> Memory:
        """Return a copy of what it remembers."""
        return {name: tensor.clone() for name, tensor in self._remembered().items()}

    def restore(self, memory: Memory) -> None:
        """Take up what `memory` returned, of the same kind of optimiser for the same parameters."""
        for name, tensor in self._remembered().items():
            tensor.copy_(memory[name])

    @abstractmethod
    def _remembered(self) -> Memory:
        """Return what it remembers, not copied."""


class Sgd(Optimizer):
    """Stochastic gradient descent; with momentum (Polyak, 1964) when the choice is of that kind."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], choice: OptimizerChoice) -> None:
        super().__init__(parameters, choice)
        self._momentum = choice.momentum if choice.kind == "momentum" else 0.0
        self._velocity = torch.zeros_like(self._weights) if self._momentum else None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters once."""
        sgd(
            [self._weights],
            [self._gradients],
            [self._velocity],
            fused=True,
            weight_decay=self._choice.weight_decay,
            momentum=self._momentum,
            lr=self._choice.learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def _remembered(self) -> Memory:
        return {} if self._velocity is None else {"velocity": self._velocity}


class Adam(Optimizer):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1 with its constants."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], choice: OptimizerChoice) -> None:
        super().__init__(parameters, choice)
        self._mean = torch.zeros_like(self._weights)
        self._square = torch.zeros_like(self._weights)
        self._steps = torch.zeros(())

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters once."""
        adam(
            [self._weights],
            [self._gradients],
            [self._mean],
            [self._square],
            [],
            [self._steps],
            fused=True,
            amsgrad=False,
            lr=self._choice.learning_rate,
            weight_decay=self._choice.weight_decay,
            maximize=False,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
        )

    def _remembered(self) -> Memory:
        return {"mean": self._mean, "square": self._square, "steps": self._steps}


_KINDS: Mapping[str, type[Optimizer]] = {"sgd": Sgd, "momentum": Sgd, "adam": Adam}


def build_optimizer(parameters: Iterable[torch.nn.Parameter], choice: OptimizerChoice) -> Optimizer:
    """Build the chosen optimiser for the parameters, which it takes over."""
    if choice.kind not in _KINDS:
        raise NotLearnable(f"train.optimizer.kind: expected sgd, momentum or adam, got {choice.kind!r}")
    return _KINDS[choice.kind](parameters, choice)
