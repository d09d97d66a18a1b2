"""The optimisers that a pipeline can ask for."""

from collections.abc import Iterable
from typing import Protocol

import torch

from headrace_learning.errors import NotLearnable


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


def build_optimizer(parameters: Iterable[torch.nn.Parameter], choice: OptimizerChoice) -> torch.optim.Optimizer:
    """Build the chosen optimiser for the parameters.

    sgd: w <- w - rate * gradient. momentum: the same with a velocity (Polyak, 1964), as PyTorch writes it.
    adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, with its default constants.
    """
    match choice.kind:
        case "sgd":
            return torch.optim.SGD(parameters, lr=choice.learning_rate, weight_decay=choice.weight_decay)
        case "momentum":
            return torch.optim.SGD(
                parameters, lr=choice.learning_rate, momentum=choice.momentum, weight_decay=choice.weight_decay
            )
        case "adam":
            return torch.optim.Adam(parameters, lr=choice.learning_rate, weight_decay=choice.weight_decay)
        case other:
            raise NotLearnable(f"train.optimizer.kind: expected sgd, momentum or adam, got {other!r}")
