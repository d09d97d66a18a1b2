"""Everything that can go wrong in headrace_learning.

::

    LearningError
    ├── NotLearnable     the pipeline asks for something that cannot be built or trained
    ├── NotAServedGraph  an ONNX graph lacks a tensor that every served graph has
    ├── ExportMismatch   ONNX Runtime and PyTorch disagree about an exported graph
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


class BrokenCheckpoint(LearningError):
    """Bytes are no whole checkpoint of the expected format."""
