"""The optimisers that a pipeline can ask for.

The arithmetic is PyTorch's, by the functions that the classes of `torch.optim` call: the classes themselves import a
compiler at the first step, which takes seconds of every run and 150 MB.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import torch
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from headrace_learning.errors import NotLearnable
from headrace_learning.training.parameters import Learned, OneVector, Parameters, Vector

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
    """Moves parameters against their gradients."""

    remembers: int
    """Vectors of the parameters' size that it keeps, beside that of an average."""

    def __init__(self, parameters: Parameters, choice: OptimizerChoice) -> None:
        self._held = parameters
        self._choice = choice
        self._average = parameters.vector(torch.clone) if choice.average else None
        self._averaged = torch.zeros(())
        """Steps that are in the average."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._held.forget()

    def combine(self, add_up: Callable[[torch.Tensor], None]) -> None:
        """Make of the gradients what `add_up` makes of tensors in place, such as the sum over several processes."""
        self._held.combine(add_up)

    def divide(self, scale: float) -> bool:
        """Divide the gradients. Return whether all of them are finite."""
        for gradient in self._held.gradients():
            gradient.div_(scale)
        return self._held.are_finite()

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Move the parameters once, by `factor` times the learning rate."""
        clip, average = self._choice.clip, self._choice.average
        if clip is not None and (norm := self._held.norm()) > clip:
            for gradient in self._held.gradients():
                gradient.mul_(clip / norm)
        self._move(self._choice.learning_rate * factor)
        if self._average is not None and average is not None:
            # At first the average forgets faster, or it would be of the random weights of the start for long.
            steps = float(self._averaged)
            for kept, weights in zip(self._average.parts, self._held.weights, strict=True):
                kept.lerp_(weights, 1.0 - min(average, (1.0 + steps) / (10.0 + steps)))
            self._averaged += 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the parameters be their moving average within the block, where there is one."""
        if self._average is None:
            yield
            return
        own = [weights.clone() for weights in self._held.weights]
        self._become(self._average.parts)
        try:
            yield
        finally:
            self._become(own)

    def _become(self, values: Sequence[torch.Tensor]) -> None:
        for weights, value in zip(self._held.weights, values, strict=True):
            weights.copy_(value)

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
        kept: dict[str, Vector | torch.Tensor] = dict(self._remembered())
        if self._average is not None:
            kept |= {"average": self._average, "averaged": self._averaged}
        found: dict[str, torch.Tensor] = {}
        for name, each in kept.items():
            found |= {name: each} if isinstance(each, torch.Tensor) else _named(name, each)
        return found

    @abstractmethod
    def _remembered(self) -> Mapping[str, Vector | torch.Tensor]:
        """Return what it remembers, not copied."""


def _named(name: str, vector: Vector) -> Memory:
    return {f"{name}{suffix}": tensor for suffix, tensor in vector.held.items()}


class Sgd(Optimizer):
    """Stochastic gradient descent."""

    remembers = 0

    def __init__(self, parameters: Parameters, choice: OptimizerChoice) -> None:
        super().__init__(parameters, choice)
        self._momentum = choice.momentum if self.remembers else 0.0
        self._velocity = parameters.vector(torch.zeros_like) if self._momentum else None

    def _move(self, rate: float) -> None:
        held = self._held
        velocities = [None] * len(held.weights) if self._velocity is None else self._velocity.parts
        for weights, gradients, velocity, factor in zip(
            held.weights, held.gradients(), velocities, held.factors, strict=True
        ):
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

    def _remembered(self) -> Mapping[str, Vector | torch.Tensor]:
        return {} if self._velocity is None else {"velocity": self._velocity}


class Momentum(Sgd):
    """Stochastic gradient descent with momentum (Polyak, 1964)."""

    remembers = 1


class Adam(Optimizer):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1 with its constants."""

    remembers = 2
    _decoupled = False

    def __init__(self, parameters: Parameters, choice: OptimizerChoice) -> None:
        super().__init__(parameters, choice)
        self._mean, self._square = (parameters.vector(torch.zeros_like) for _ in range(2))
        self._steps = torch.zeros((), device=parameters.device)

    def _move(self, rate: float) -> None:
        held = self._held
        parts = list(
            zip(held.weights, held.gradients(), self._mean.parts, self._square.parts, held.factors, strict=True)
        )
        for place, (weights, gradients, mean, square, factor) in enumerate(parts, start=1):
            adam(
                [weights],
                [gradients],
                [mean],
                [square],
                [],
                # The kernel counts the step: once for all parts.
                [self._steps if place == len(parts) else self._steps.clone()],
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

    def _remembered(self) -> Mapping[str, Vector | torch.Tensor]:
        return {"mean": self._mean, "square": self._square, "steps": self._steps}


class AdamW(Adam):
    """Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019: weights decay apart from gradients."""

    _decoupled = True


KINDS: Final[Mapping[str, type[Optimizer]]] = {"sgd": Sgd, "momentum": Momentum, "adam": Adam, "adamw": AdamW}
"""The optimisers by the kind that the spec names."""


def remembered_vectors(choice: OptimizerChoice) -> int:
    """Return how many vectors of the parameters' size the chosen optimiser keeps from step to step."""
    return KINDS[choice.kind].remembers + (choice.average is not None)


def build_optimizer(
    groups: Sequence[Learned],
    choice: OptimizerChoice,
    hold: Callable[[Sequence[Learned]], Parameters] = OneVector,
) -> Optimizer:
    """Build the chosen optimiser for the parameters, which it takes over. `hold` says in what form."""
    if choice.kind not in KINDS:
        raise NotLearnable(f"train.optimizer.kind: expected one of {', '.join(KINDS)}, got {choice.kind!r}")
    return KINDS[choice.kind](hold(groups), choice)
