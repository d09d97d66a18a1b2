"""What a network is trained for: the loss that it lowers, and what is told of it after each epoch."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional


class Objective(Protocol):
    """One kind of task."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of some rows, a scalar."""

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return what else is worth telling of some rows, by name."""


@dataclass(frozen=True)
class Classification:
    """Cross-entropy in nats over logits [rows, classes]; targets are places of classes, [rows] int64."""

    weights: torch.Tensor | None = None
    """How much a row of each class counts, [classes] float32; None when all count alike."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy, a row weighing as much as its class does."""
        return functional.cross_entropy(outputs, targets, weight=self.weights)

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the accuracy, unweighted."""
        return {"accuracy": float((outputs.argmax(dim=1) == targets).float().mean())}


@dataclass(frozen=True)
class Regression:
    """Squared error over one output [rows, 1]; targets are labels in deviations from their mean, [rows] float32."""

    deviation: float
    """The label's standard deviation over the training split, in its own unit."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error, in variances of the label."""
        return functional.mse_loss(outputs.squeeze(1), targets)

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the root of the mean squared error, in the label's unit."""
        return {"rmse": float(self.loss(outputs, targets).sqrt()) * self.deviation}


def balanced_weights(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Return weights by which each class counts alike: rows / (classes * rows of the class), [classes] float32.

    The heuristic of King and Zeng, "Logistic Regression in Rare Events Data" (2001), as scikit-learn has it. A class
    without rows counts as if it had one.
    """
    counts = torch.bincount(targets, minlength=classes).clamp(min=1)
    return (len(targets) / (classes * counts.to(torch.float64))).to(torch.float32)
