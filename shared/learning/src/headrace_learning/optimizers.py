"""The optimisers that a pipeline can ask for.

They are written out here, in PyTorch's operations: `torch.optim` imports a compiler at the first step, which takes
seconds of every run and 150 MB, and it goes through the parameters one by one. Here all parameters are one vector, of
which the network's are views, so a step is a handful of operations however many layers there are.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch

from headrace_learning.errors import NotLearnable

Memory = Mapping[str, torch.Tensor]
"""What an optimiser remembers from step to step, by name."""

_DECAY_OF_MEAN = 0.9
_DECAY_OF_SQUARE = 0.999
_SMALLEST_ROOT = 1e-8


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
        self.weights = torch.cat([owner.detach().reshape(-1) for owner in owners])
        self.gradients = torch.zeros_like(self.weights)
        self.rate = choice.learning_rate
        self._decay = choice.weight_decay
        start = 0
        for owner in owners:
            end = start + owner.numel()
            owner.data = self.weights[start:end].view_as(owner)
            owner.grad = self.gradients[start:end].view_as(owner)
            start = end

    def zero_grad(self) -> None:
        """Forget the gradients; they stay where they are."""
        self.gradients.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters once."""
        if self._decay:
            self.gradients.add_(self.weights, alpha=self._decay)
        self._move()

    def memory(self) -> Memory:
        """Return a copy of what it remembers."""
        return {name: tensor.clone() for name, tensor in self._remembered().items()}

    def restore(self, memory: Memory) -> None:
        """Take up what `memory` returned, of the same kind of optimiser for the same parameters."""
        for name, tensor in self._remembered().items():
            tensor.copy_(memory[name])

    @abstractmethod
    def _move(self) -> None:
        """Move `weights` by `gradients`."""

    def _remembered(self) -> Memory:
        return {}


class Sgd(Optimizer):
    """Stochastic gradient descent: w <- w - rate * gradient."""

    def _move(self) -> None:
        self.weights.sub_(self.gradients, alpha=self.rate)


class Momentum(Optimizer):
    """Gradient descent with a velocity (Polyak, 1964), as PyTorch writes it: v <- momentum * v + gradient."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], choice: OptimizerChoice) -> None:
        super().__init__(parameters, choice)
        self._momentum = choice.momentum
        self._velocity = torch.zeros_like(self.weights)

    def _move(self) -> None:
        self._velocity.mul_(self._momentum).add_(self.gradients)
        self.weights.sub_(self._velocity, alpha=self.rate)

    def _remembered(self) -> Memory:
        return {"velocity": self._velocity}


class Adam(Optimizer):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1 with its constants."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], choice: OptimizerChoice) -> None:
        super().__init__(parameters, choice)
        self._mean = torch.zeros_like(self.weights)
        self._square = torch.zeros_like(self.weights)
        self._steps = torch.zeros((), dtype=torch.int64)
        self._root = torch.empty_like(self.weights)

    def _move(self) -> None:
        steps = int(self._steps.add_(1))
        self._mean.lerp_(self.gradients, 1 - _DECAY_OF_MEAN)
        self._square.mul_(_DECAY_OF_SQUARE).addcmul_(self.gradients, self.gradients, value=1 - _DECAY_OF_SQUARE)
        # The corrections for the first steps, in which the means still lean towards their start at zero.
        torch.sqrt(self._square, out=self._root)
        self._root.div_((1 - _DECAY_OF_SQUARE**steps) ** 0.5).add_(_SMALLEST_ROOT)
        self.weights.addcdiv_(self._mean, self._root, value=-self.rate / (1 - _DECAY_OF_MEAN**steps))

    def _remembered(self) -> Memory:
        return {"mean": self._mean, "square": self._square, "steps": self._steps}


_KINDS: Mapping[str, type[Optimizer]] = {"sgd": Sgd, "momentum": Momentum, "adam": Adam}


def build_optimizer(parameters: Iterable[torch.nn.Parameter], choice: OptimizerChoice) -> Optimizer:
    """Build the chosen optimiser for the parameters, which it takes over."""
    if choice.kind not in _KINDS:
        raise NotLearnable(f"train.optimizer.kind: expected sgd, momentum or adam, got {choice.kind!r}")
    return _KINDS[choice.kind](parameters, choice)
