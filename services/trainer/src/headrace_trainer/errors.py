"""Everything that ends a training run for good.

::

    TrainingError
    ├── WrongDataset  the dataset does not hold what the pipeline asks for
    └── Diverged      the loss is no finite number any more
"""


class TrainingError(Exception):
    """Base of every error of this service: another attempt would end the same way."""


class WrongDataset(TrainingError):
    """The dataset does not hold what the pipeline asks for."""


class Diverged(TrainingError):
    """The loss is no finite number any more."""

    def __init__(self, epoch: int, loss: float, learning_rate: float) -> None:
        super().__init__(
            f"training diverged in epoch {epoch}: expected a finite loss, got {loss}; "
            f"try a lower train.optimizer.learningRate than {learning_rate:g}"
        )
