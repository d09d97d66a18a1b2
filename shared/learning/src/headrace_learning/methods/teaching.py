"""The loss of a student that learns from labels and from a teacher's answers, and what one is to `distilled`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from headrace_learning.families.family import Fitted
from headrace_learning.training.objectives import Objective
from headrace_learning.training.rows import Rows


@dataclass(frozen=True)
class Distillation:
    """The loss of a student; targets are [rows, numbers of a label + numbers of an answer]: the teacher's is behind.

    Rows whose targets are labels alone are learned by the label.
    """

    labels: Objective
    """The loss by the label."""
    taught: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
    """The loss by the teacher's answer, as `Teaching` has it."""
    label: torch.Tensor
    """Labels as `labels` takes them, [rows] or [rows, places]: their type and shape."""
    temperature: float
    alpha: float
    """Share of the label's loss."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of some rows, a scalar."""
        hard, answers = self.labels.loss(outputs, self._labels(targets)), self.answers(targets)
        if answers is None:
            return hard
        return self.alpha * hard + (1.0 - self.alpha) * self.taught(outputs, answers, self.temperature)

    def weight(self, targets: torch.Tensor) -> float:
        """Return how much some rows count in a mean loss of more rows."""
        return self.labels.weight(self._labels(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return what the label's task measures."""
        return self.labels.measure(outputs, self._labels(targets))

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what the label's task tells."""
        return self.labels.told(means)

    def answers(self, targets: torch.Tensor) -> torch.Tensor | None:
        """Return the teacher's part of targets, [rows, numbers]; None of labels alone."""
        wide = self.label.shape[1:].numel()
        return targets[:, wide:] if targets.dim() > 1 and targets.shape[1] > wide else None

    def _labels(self, targets: torch.Tensor) -> torch.Tensor:
        if self.answers(targets) is None:
            return targets
        shape = self.label.shape[1:]
        return targets[:, : shape.numel()].reshape(len(targets), *shape).to(self.label.dtype)


@dataclass(frozen=True)
class Student:
    """What learns from a teacher."""

    objective: Objective
    answers: torch.Tensor
    """What the teacher answers to the rows of the training split, [rows, numbers], as the objective takes it behind the
    labels."""
    learn: Callable[[Rows, Objective], Fitted]
    """From rows, with a teacher's answers or without, to what was learned; the same beginning each time."""
