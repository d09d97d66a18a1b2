"""What the catalogue holds of datasets, runs, versions and releases: each as far as the log has told."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from headrace_model_registry.core.facts import (
    CompressionRequested,
    DatasetFrozen,
    Evaluation,
    ModelReleased,
    ModelTrained,
    RunKind,
    TrainingRequested,
    Variant,
)
from headrace_model_registry.core.facts.classes import GateResult


class RunState(IntEnum):
    """Where a run stands."""

    UNSPECIFIED = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    WAITING = 4
    SUPERSEDED = 5


class VersionState(IntEnum):
    """What the policy made of a version."""

    UNSPECIFIED = 0
    CANDIDATE = 1
    RELEASED = 2
    REFUSED = 3
    REPLACED = 4
    RETIRED = 5


@dataclass(frozen=True, slots=True)
class Dataset:
    """A frozen dataset and when the registry learned of it."""

    frozen: DatasetFrozen
    freeze_time: datetime


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run: what was asked for, where it stands, and when. `end_time` is None while it waits or runs."""

    request: TrainingRequested | CompressionRequested
    request_time: datetime
    state: RunState = RunState.RUNNING
    reason: str = ""
    end_time: datetime | None = None
    never_began: bool = False
    """Whether it failed before it began: refused for privacy, to be asked for again, or deleted while it waited."""

    @property
    def holds_up(self) -> bool:
        """Whether a pipeline waits for its end: for a class that a command names there may be no compressor.

        Nor does it for what changes nothing.
        """
        request = self.request
        return isinstance(request, TrainingRequested) or not (request.cpu_class or request.canary)

    @property
    def kind(self) -> RunKind:
        """What the run does."""
        return RunKind.TRAINING if isinstance(self.request, TrainingRequested) else RunKind.COMPRESSION

    @property
    def subject(self) -> str:
        """What it works on: a dataset id when training, a version id when compressing."""
        if isinstance(self.request, TrainingRequested):
            return self.request.dataset.dataset_id
        return self.request.candidate.version_id

    @property
    def origin(self) -> str:
        """Id of the version that it begins from; empty for the seed, and when compressing."""
        held = self.request.origin if isinstance(self.request, TrainingRequested) else None
        return held.version_id if held else ""


@dataclass(frozen=True, slots=True)
class ClassMeasurement:
    """What was measured of a released version on another class of processors than the first; judged with a release."""

    cpu_class: str
    variants: tuple[Variant, ...]
    gates: tuple[GateResult, ...] = ()
    frontier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """One trained result of a model. `ordinal` is its place in the model's history: 1, 2, 3 ..."""

    trained: ModelTrained
    ordinal: int
    state: VersionState = VersionState.CANDIDATE
    variants: tuple[Variant, ...] = ()
    gates: tuple[GateResult, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    reason: str = ""
    cpu_class: str = ""
    """What its variants were measured on."""
    frontier: tuple[str, ...] = ()
    """Names of the variants that passed their gates and that no other of these outdoes."""
    elsewhere: tuple[ClassMeasurement, ...] = ()
    """What was measured on other classes of processors since its variants were made."""


@dataclass(frozen=True, slots=True)
class Release:
    """A move of an alias and when it was."""

    released: ModelReleased
    release_time: datetime
