"""The learning rate over the epochs: one function for each kind that a pipeline can ask for.

Cosine after Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (ICLR 2017), without
restarts; warm-up after Goyal et al., "Accurate, Large Minibatch SGD" (2017).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

_COUNTS = "schedule"


@dataclass(frozen=True)
class Place:
    """How far a training is."""

    passed: float
    """Epochs done, the part of the present one that is done included."""
    epochs: int
    """Epochs there are, at most."""
    stalls: int
    """How often the validation loss has stood still."""


def _constant(_section: Any, _place: Place) -> float:
    return 1.0


def _cosine(section: Any, place: Place) -> float:
    share = (1.0 + math.cos(math.pi * place.passed / place.epochs)) / 2.0
    return float(section.floor + (1.0 - section.floor) * share)


def _step(section: Any, place: Place) -> float:
    return float(section.factor ** (int(place.passed) // section.every))


def _plateau(section: Any, place: Place) -> float:
    return float(section.factor**place.stalls)


SCHEDULES: Final[Mapping[str, Callable[[Any, Place], float]]] = {
    "constant": _constant,
    "cosine": _cosine,
    "step": _step,
    "plateau": _plateau,
}
"""By the kind that the spec names: its section and the place in the training to a factor of the learning rate."""


class Schedule:
    """The factor of the learning rate in one training. It counts the epochs in which the loss stood still."""

    def __init__(self, section: Any, epochs: int) -> None:
        """`section` is `train.optimizer.schedule`, None for a rate that stays."""
        self._section = section
        self._epochs = epochs
        self._counts = torch.zeros(2, dtype=torch.int64)
        """How often the loss stood still, and epochs since it last fell or stood still."""

    def factor(self, passed: float, share: float) -> float:
        """Return the factor of a step that is `share` of an epoch, after `passed` epochs."""
        section = self._section
        if section is None:
            return 1.0
        warm = min(1.0, (passed + share) / section.warmup) if section.warmup else 1.0
        return warm * SCHEDULES[section.kind](section, Place(passed, self._epochs, int(self._counts[0])))

    def saw(self, *, better: bool) -> None:
        """Note whether the validation loss fell in the epoch just done."""
        waited = 0 if better else int(self._counts[1]) + 1
        patience = getattr(self._section, "patience", None)
        if patience is not None and waited >= patience:
            self._counts[0] += 1
            waited = 0
        self._counts[1] = waited

    def memory(self) -> Mapping[str, torch.Tensor]:
        """Return a copy of what it counts; nothing for a kind that is a function of the epoch alone."""
        return {} if getattr(self._section, "patience", None) is None else {_COUNTS: self._counts.clone()}

    def restore(self, memory: Mapping[str, torch.Tensor]) -> None:
        """Take up what `memory` returned."""
        if _COUNTS in memory:
            self._counts.copy_(memory[_COUNTS])
