"""What a network is trained for: the loss that it lowers, and what is told of it after each epoch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from headrace_data.tasks.classification import ACCURACY
from headrace_data.tasks.measure import Array
from headrace_data.tasks.multilabel import MICRO_F1
from headrace_data.tasks.regression import RMSE
from torch.nn import functional


class Objective(Protocol):
    """One kind of task."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of some rows, a scalar."""

    def weight(self, targets: torch.Tensor) -> float:
        """Return how much some rows count in a mean loss of more rows."""

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return means over some rows, by name, of what else is worth telling."""

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is told of such means over all rows, by name."""


@dataclass(frozen=True)
class Classification:
    """Cross-entropy in nats over logits [rows, classes]; targets are places of classes, [rows] int64."""

    weights: torch.Tensor | None = None
    """How much a row of each class counts, [classes] float32; None when all count alike."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy, a row weighing as much as its class does."""
        return functional.cross_entropy(
            outputs, targets, weight=None if self.weights is None else self.weights.to(outputs.device)
        )

    def weight(self, targets: torch.Tensor) -> float:
        """Return the sum of what the rows' classes count."""
        return float(len(targets) if self.weights is None else self.weights[targets].sum())

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the accuracy, unweighted."""
        return {ACCURACY.name: float((outputs.argmax(dim=1) == targets).float().mean())}

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the accuracy."""
        return dict(means)


@dataclass(frozen=True)
class Regression:
    """Squared error over one output [rows, 1]; targets are labels in deviations from their mean, [rows] float32."""

    deviation: float
    """The label's standard deviation over the training split, in its own unit."""
    mean: float = 0.0
    """The label's mean over the training split, in its own unit."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error, in variances of the label."""
        return functional.mse_loss(outputs.squeeze(1), targets)

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of rows."""
        return float(len(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the mean squared error, in variances of the label."""
        return {"mse": float(self.loss(outputs, targets))}

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the root of the mean squared error, in the label's unit."""
        return {RMSE.name: float(torch.tensor(means["mse"], dtype=torch.float32).sqrt()) * self.deviation}


@dataclass(frozen=True)
class RegressionOfSteps:
    """Squared error over outputs [rows, steps]; targets are deviations from each step's mean, of the same shape."""

    deviation: Array
    """The label's standard deviation over the training split, in its own unit, [steps]."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error, in variances of each step."""
        return functional.mse_loss(outputs, targets)

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of rows."""
        return float(len(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the mean squared error, in the label's unit squared."""
        errors = (outputs - targets).to(torch.float64) * torch.from_numpy(self.deviation).to(outputs.device)
        return {"mse": float(errors.square().mean())}

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the root of the mean squared error, in the label's unit."""
        return {RMSE.name: math.sqrt(means["mse"])}


@dataclass(frozen=True)
class Multilabel:
    """Binary cross-entropy in nats over logits [rows, places]; targets are 1 or 0, of the same shape, float32."""

    weights: torch.Tensor | None = None
    """How much a row counts without and with each label, [2, places] float32; None when all count alike."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean over rows and places."""
        if self.weights is None:
            return functional.binary_cross_entropy_with_logits(outputs, targets)
        without, those_with = self.weights.to(outputs.device)
        weight = without + (those_with - without) * targets
        return functional.binary_cross_entropy_with_logits(outputs, targets, weight=weight)

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of rows."""
        return float(len(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return how many labels of a row are answered, there, and both."""
        given, there = outputs > 0, targets > 0.5
        counts = {"answered": given, "there": there, "right": given & there}
        return {name: float(which.sum()) / len(targets) for name, which in counts.items()}

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return micro F1."""
        both = means["answered"] + means["there"]
        return {MICRO_F1.name: 2 * means["right"] / both if both else 0.0}


def balanced_weights(counts: torch.Tensor) -> torch.Tensor:
    """Return weights by which each class counts alike: rows / (classes * rows of the class), [classes] float32.

    `counts` are the rows of each class, [classes] int64.

    The heuristic of King and Zeng, "Logistic Regression in Rare Events Data" (2001), as scikit-learn has it. A class
    without rows counts as if it had one.
    """
    rows, held = int(counts.sum()), counts.clamp(min=1).to(torch.float64)
    return (rows / (len(counts) * held)).to(torch.float32)
