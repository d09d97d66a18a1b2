"""The optimisers that a pipeline can ask for.

The arithmetic is PyTorch's, by the functions that the classes of `torch.optim` call: the classes themselves import a
compiler at the first step, which takes seconds of every run and 150 MB. All parameters are one vector, of which the
network's are views, so a step is one kernel however many layers there are.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import torch
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from headrace_learning.errors import NotLearnable

Group = tuple[Iterable[torch.nn.Parameter], float]
"""Parameters, and by what the learning rate is multiplied for them."""
Memory = Mapping[str, torch.Tensor]
"""What an optimiser remembers from step to step, by name."""


class OptimizerChoice(Protocol):
    """What a pipeline says under train.optimizer."""

    @property
    def kind(self) -> str:
        """A key of `KINDS`."""

    @property
    def learning_rate(self) -> float:
        """Step size."""

    @property
    def momentum(self) -> float:
        """Share of the last step that is kept; for the kind momentum only."""

    @property
    def weight_decay(self) -> float:
        """Strength of the pull of every weight towards zero: an L2 penalty, with adamw apart from the gradient."""

    @property
    def clip(self) -> float | None:
        """Greatest norm of all gradients together."""

    @property
    def average(self) -> float | None:
        """Share of the moving average of the weights that each step keeps."""


class Optimizer(ABC):
    """Moves parameters against their gradients. Takes the parameters over: they become views of one vector."""

    remembers: int
    """Vectors of the parameters' size that it keeps, beside that of an average."""

    def __init__(self, groups: Sequence[Group], choice: OptimizerChoice) -> None:
        owned = [list(parameters) for parameters, _ in groups]
        owners = [owner for parameters in owned for owner in parameters]
        self._choice = choice
        self._factors = [factor for _, factor in groups]
        self._sizes = [sum(owner.numel() for owner in parameters) for parameters in owned]
        self._weights = torch.cat([owner.detach().reshape(-1) for owner in owners])
        self._gradients = torch.zeros_like(self._weights)
        start = 0
        for owner in owners:
            end = start + owner.numel()
            owner.data = self._weights[start:end].view_as(owner)
            owner.grad = self._gradients[start:end].view_as(owner)
            start = end
        self._average = self._weights.clone() if choice.average else None
        self._averaged = torch.zeros(())
        """Steps that are in the average."""

    def _of_groups(self, vector: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return views of each group's part of a vector."""
        return torch.split(vector, self._sizes) if len(self._sizes) > 1 else [vector]

    def zero_grad(self) -> None:
        """Forget the gradients; they stay where they are."""
        self._gradients.zero_()

    def combine(self, add_up: Callable[[torch.Tensor], None]) -> None:
        """Make of the gradients what `add_up` makes of a vector in place, such as the sum over several processes."""
        add_up(self._gradients)

    def divide(self, scale: float) -> bool:
        """Divide the gradients. Return whether all of them are finite."""
        self._gradients.div_(scale)
        return bool(self._gradients.isfinite().all())

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Move the parameters once, by `factor` times the learning rate."""
        clip, average = self._choice.clip, self._choice.average
        if clip is not None and (norm := float(torch.linalg.vector_norm(self._gradients))) > clip:
            self._gradients.mul_(clip / norm)
        self._move(self._choice.learning_rate * factor)
        if self._average is not None and average is not None:
            # At first the average forgets faster, or it would be of the random weights of the start for long.
            steps = float(self._averaged)
            self._average.lerp_(self._weights, 1.0 - min(average, (1.0 + steps) / (10.0 + steps)))
            self._averaged += 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the parameters be their moving average within the block, where there is one."""
        if self._average is None:
            yield
            return
        own = self._weights.clone()
        self._weights.copy_(self._average)
        try:
            yield
        finally:
            self._weights.copy_(own)

    @abstractmethod
    def _move(self, rate: float) -> None:
        """Move the parameters by a learning rate."""

    def memory(self) -> Memory:
        """Return a copy of what it remembers, on the CPU."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._everything().items()}

    def restore(self, memory: Memory) -> None:
        """Take up what `memory` returned, of the same kind of optimiser for the same parameters."""
        for name, tensor in self._everything().items():
            tensor.copy_(memory[name])

    def _everything(self) -> Memory:
        if self._average is None:
            return self._remembered()
        return {**self._remembered(), "average": self._average, "averaged": self._averaged}

    @abstractmethod
    def _remembered(self) -> Memory:
        """Return what it remembers, not copied."""


class Sgd(Optimizer):
    """Stochastic gradient descent."""

    remembers = 0

    def __init__(self, groups: Sequence[Group], choice: OptimizerChoice) -> None:
        super().__init__(groups, choice)
        self._momentum = choice.momentum if self.remembers else 0.0
        self._velocity = torch.zeros_like(self._weights) if self._momentum else None
        velocities = [None] * len(groups) if self._velocity is None else self._of_groups(self._velocity)
        self._parts = list(
            zip(
                self._of_groups(self._weights),
                self._of_groups(self._gradients),
                velocities,
                self._factors,
                strict=True,
            )
        )

    def _move(self, rate: float) -> None:
        for weights, gradients, velocity, factor in self._parts:
            sgd(
                [weights],
                [gradients],
                [velocity],
                fused=True,
                weight_decay=self._choice.weight_decay,
                momentum=self._momentum,
                lr=rate * factor,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )

    def _remembered(self) -> Memory:
        return {} if self._velocity is None else {"velocity": self._velocity}


class Momentum(Sgd):
    """Stochastic gradient descent with momentum (Polyak, 1964)."""

    remembers = 1


class Adam(Optimizer):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1 with its constants."""

    remembers = 2
    _decoupled = False

    def __init__(self, groups: Sequence[Group], choice: OptimizerChoice) -> None:
        super().__init__(groups, choice)
        self._mean = torch.zeros_like(self._weights)
        self._square = torch.zeros_like(self._weights)
        self._steps = torch.zeros((), device=self._weights.device)
        vectors = (self._weights, self._gradients, self._mean, self._square)
        self._parts = list(zip(*(self._of_groups(vector) for vector in vectors), self._factors, strict=True))

    def _move(self, rate: float) -> None:
        for place, (weights, gradients, mean, square, factor) in enumerate(self._parts, start=1):
            adam(
                [weights],
                [gradients],
                [mean],
                [square],
                [],
                # The kernel counts the step: once for all groups.
                [self._steps if place == len(self._parts) else self._steps.clone()],
                fused=True,
                decoupled_weight_decay=self._decoupled,
                amsgrad=False,
                lr=rate * factor,
                weight_decay=self._choice.weight_decay,
                maximize=False,
                beta1=0.9,
                beta2=0.999,
                eps=1e-8,
            )

    def _remembered(self) -> Memory:
        return {"mean": self._mean, "square": self._square, "steps": self._steps}


class AdamW(Adam):
    """Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019: weights decay apart from gradients."""

    _decoupled = True


KINDS: Final[Mapping[str, type[Optimizer]]] = {"sgd": Sgd, "momentum": Momentum, "adam": Adam, "adamw": AdamW}
"""The optimisers by the kind that the spec names."""


def remembered_vectors(choice: OptimizerChoice) -> int:
    """Return how many vectors of the parameters' size the chosen optimiser keeps from step to step."""
    return KINDS[choice.kind].remembers + (choice.average is not None)


def build_optimizer(groups: Sequence[Group], choice: OptimizerChoice) -> Optimizer:
    """Build the chosen optimiser for the parameters, which it takes over."""
    if choice.kind not in KINDS:
        raise NotLearnable(f"train.optimizer.kind: expected one of {', '.join(KINDS)}, got {choice.kind!r}")
    return KINDS[choice.kind](groups, choice)
