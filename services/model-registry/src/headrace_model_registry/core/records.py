"""What the catalogue holds of datasets, runs, versions and releases: each as far as the log has told."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from headrace_model_registry.core.facts import (
    CompressionRequested,
    DatasetFrozen,
    Evaluation,
    EvaluationRequested,
    KeyForgotten,
    ModelReleased,
    ModelTrained,
    RunKind,
    TrainingRequested,
    Variant,
)
from headrace_model_registry.core.facts.classes import GateResult
from headrace_model_registry.core.facts.hold import HeldSegment


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


_KINDS: Final[dict[type, RunKind]] = {
    TrainingRequested: RunKind.TRAINING,
    CompressionRequested: RunKind.COMPRESSION,
    EvaluationRequested: RunKind.EVALUATION,
}


@dataclass(frozen=True, slots=True)
class Held:
    """A suspected segment of a pipeline, when the registry learned of it, and why it is held."""

    pipeline: str
    segment: HeldSegment
    hold_time: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run: what was asked for, where it stands, and when. `end_time` is None while it waits or runs."""

    request: TrainingRequested | CompressionRequested | EvaluationRequested
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
        if isinstance(request, CompressionRequested):
            return not (request.cpu_class or request.canary)
        return isinstance(request, TrainingRequested)

    @property
    def kind(self) -> RunKind:
        """What the run does."""
        return _KINDS[type(self.request)]

    @property
    def subject(self) -> str:
        """What it works on: a dataset id when training, else a version id."""
        if isinstance(self.request, TrainingRequested):
            return self.request.dataset.dataset_id
        if isinstance(self.request, EvaluationRequested):
            return self.request.version.version_id
        return self.request.candidate.version_id

    @property
    def origin(self) -> str:
        """Id of the version that it begins from; empty for the seed, and when none is trained."""
        held = self.request.origin if isinstance(self.request, TrainingRequested) else None
        return held.version_id if held else ""


@dataclass(frozen=True, slots=True)
class ForgottenKey:
    """What was done about a key, and when the registry learned of it."""

    forgotten: KeyForgotten
    occur_time: datetime
    version_ids: tuple[str, ...] = ()
    """The versions that have learned from it by then."""


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
    forgotten_keys: int = 0
    """How many keys it has learned from that were forgotten since."""


@dataclass(frozen=True, slots=True)
class Release:
    """A move of an alias and when it was."""

    released: ModelReleased
    release_time: datetime
