"""Everything that ends a training run for good.

::

    TrainingError
    ├── WrongDataset   the dataset does not hold what the pipeline asks for
    ├── Diverged       the loss is no finite number any more
    ├── NotMeasurable  what was trained has no finite measurements on the test split
    └── TooManyDigits  numbers differ in digits only that the type they are computed or answered in does not have
"""

import math
from collections.abc import Mapping


class TrainingError(Exception):
    """Base of every error of this service: another attempt would end the same way."""


class WrongDataset(TrainingError):
    """The dataset does not hold what the pipeline asks for."""


class Diverged(TrainingError):
    """The loss is no finite number any more."""

    def __init__(self, epoch: int, loss: float, learning_rate: float) -> None:
        super().__init__(
            f"training diverged in epoch {epoch}: expected a finite loss, got {loss}; "
            f"try a lower train.optimizer.learningRate than {learning_rate:g}, or scale features in prepare.transform"
        )


class NotMeasurable(TrainingError):
    """What was trained has no finite measurements on the test split."""

    def __init__(self, metrics: Mapping[str, float]) -> None:
        told = ", ".join(f"{name} {value}" for name, value in metrics.items() if not math.isfinite(value))
        super().__init__(
            f"test split: expected finite measurements, got {told}; "
            "give features ranges in the schema, so that values far beyond the others are dropped"
        )


class TooManyDigits(TrainingError):
    """Numbers differ in digits only that the type they are computed or answered in does not have."""
