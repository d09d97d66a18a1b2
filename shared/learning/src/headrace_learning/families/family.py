"""What a family is asked for, and what it gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace_data.spec import Train
from torch import nn

from headrace_learning.features import Feature
from headrace_learning.graphs import Array, Columns
from headrace_learning.served import Served
from headrace_learning.training.checkpoint import tensors_to_bytes
from headrace_learning.training.loop import Outcome
from headrace_learning.training.objectives import Objective
from headrace_learning.training.ports import Artifacts, Checkpoints, NoArtifacts, Progress
from headrace_learning.training.rows import Source
from headrace_learning.training.transfer import Begun, Origin

Labelled = Iterable[tuple[Columns, Array]]
"""Rows in batches: raw features by name, and the label's values."""


@dataclass(frozen=True)
class Sources:
    """The prepared rows that a family learns from."""

    train: Source
    """What it learns."""
    validation: Source
    """What tells when it has learned enough."""


@dataclass(frozen=True)
class Run:
    """What a family is told of its run."""

    train: Train
    """The section of the spec: epochs, seed and whatever else the family heeds."""
    shape: tuple[int, ...]
    """Shape of one prepared row."""
    outputs: int
    """Numbers that answer one row: the logits of the classes, or one."""
    subject: str
    """What is trained on what: checkpoints of it are taken up, others are not."""
    checkpoints: Checkpoints
    progress: Progress
    artifacts: Artifacts = field(default_factory=NoArtifacts)
    classes: tuple[int, ...] | tuple[str, ...] = ()
    """The label's values in the order of the outputs; none for a regression."""
    origin: Origin | None = None
    """The version to begin from; None for the seed."""


@dataclass(frozen=True)
class Fitted:
    """What a family has learned."""

    network: nn.Module
    """Prepared rows [batch, *shape] float32 -> [batch, outputs] float32, made of what `writing` knows to write."""
    outcome: Outcome
    parameters: int
    """Numbers that were learned."""
    libraries: tuple[str, ...] = ()
    """Packages that learned it, beside those that every version names."""
    begun: Begun | None = None
    """What came from another version; None where all did from the seed."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Digests of the source files of others, by package, where such learned it."""

    def weights(self, model: Served) -> bytes:
        """Return what was learned as a file: safetensors of the model that serves `network`, transforms included."""
        return tensors_to_bytes(model.weights())


class Family(ABC):
    """One kind of model. It holds no state: what it is told comes as arguments."""

    def allowing(self, packages: Sequence[str]) -> "Family":
        """Return the family with leave to import these packages: itself, where it imports none but its own."""
        return self

    def opened(self, section: Any, artifacts: Artifacts) -> "Family":
        """Return the family with what the spec's section names in the object store: itself where that is nothing.

        Raise `NotLearnable` where what it names cannot be learned from.
        """
        return self

    def acquainted(self, section: Any, seed: int, rows: Callable[[], Labelled]) -> "Family":
        """Return the family with what it must know of the training split before rows are prepared: itself mostly.

        `rows` reads that split, raw features by name and labels.
        """
        return self

    def features(self, features: Sequence[Feature]) -> Sequence[Feature]:
        """Return the features as they are prepared for it. Raise `NotLearnable` where it has no use for them."""
        return features

    @abstractmethod
    def input_shape(self, features: Sequence[Feature]) -> tuple[int, ...]:
        """Return the shape of one prepared row. Raise `NotLearnable` where the features have none for the family."""

    @abstractmethod
    def parameters(self, section: Any, shape: Sequence[int], outputs: int) -> int:
        """Return how many numbers it learns, before anything is built."""

    @abstractmethod
    def least_bytes(
        self, train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int
    ) -> int:
        """Return the memory that `fit` takes at least, beside the libraries and the rows as they were read.

        `shape` is that of one prepared row, `rows` are those of the training and the validation split, and `held_bytes`
        what prepared rows take all the time.
        """

    @abstractmethod
    def fit(self, section: Any, rows: Sources, objective: Objective, run: Run) -> Fitted:
        """Learn, in the caller's process, with reports and checkpoints on the way.

        `section` is the spec's `train.network`. The same rows, spec and seed give the same result, also from a
        checkpoint of an earlier attempt. Raise `LearningError` where another attempt would fail as well.
        """
