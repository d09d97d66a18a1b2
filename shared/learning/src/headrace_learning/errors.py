"""Everything that can go wrong in headrace_learning.

::

    LearningError
    ├── NotLearnable     the pipeline asks for something that cannot be built or trained
    ├── NotAServedGraph  an ONNX graph lacks a tensor that every served graph has
    ├── ExportMismatch   ONNX Runtime and PyTorch disagree about an exported graph
    ├── Diverged         the loss is no finite number any more
    └── BrokenCheckpoint bytes are no whole checkpoint
"""


class LearningError(Exception):
    """Base of every error of this package."""


class NotLearnable(LearningError):
    """The pipeline asks for something that cannot be built or trained; its author must change it."""


class NotAServedGraph(LearningError):
    """An ONNX graph lacks a tensor that every served graph has."""


class ExportMismatch(LearningError):
    """ONNX Runtime and PyTorch give different answers to the same rows."""

    def __init__(self, difference: float, limit: float, labels_differ: int) -> None:
        super().__init__(
            f"exported graph: answers differ from PyTorch's by up to {difference:.3g} (expected at most "
            f"{limit:.3g}), labels differ in {labels_differ} rows"
        )
        self.difference = difference
        self.labels_differ = labels_differ


class Diverged(LearningError):
    """The loss is no finite number any more."""

    def __init__(self, epoch: int, loss: float, learning_rate: float) -> None:
        super().__init__(
            f"training diverged in epoch {epoch}: expected a finite loss, got {loss}; "
            f"try a lower train.optimizer.learningRate than {learning_rate:g}, or scale features in prepare.transform"
        )


class BrokenCheckpoint(LearningError):
    """Bytes are no whole checkpoint of the expected format."""
