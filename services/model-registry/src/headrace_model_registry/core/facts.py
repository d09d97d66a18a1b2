"""What the registry learns and what it decides: plain values, one class per message of the contracts.

A class has the name and the fields of its protobuf message: one converter maps all (`transport/converters.py`). A field
that may be unset is `X | None`. Digests are "sha256:" and 64 hexadecimal digits, names and ids are not empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import TypeAlias

from headrace_model_registry.core.backfill import Artifact, Backfill, Backfilled
from headrace_model_registry.core.classes import ClassVariants, GateResult, ServedVariant
from headrace_model_registry.core.remarks import ClassRows, Leaks, Outliers
from headrace_model_registry.core.trial import Trial

CHAMPION = "champion"
"""The alias that the policy moves: what inference serves."""


class RunKind(IntEnum):
    """What a run does."""

    UNSPECIFIED = 0
    TRAINING = 1
    COMPRESSION = 2
    RECALIBRATION = 3
    MEASUREMENT = 4


class CachePolicy(IntEnum):
    """Where hot predictions of a model are kept."""

    UNSPECIFIED = 0
    REDIS = 1
    AUTO = 2
    OFF = 3


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A pipeline's YAML as canonical JSON with its digest."""

    json: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class PipelineApplied:
    """The spec of a pipeline that is in force from now on, and the partitions of its record topics.

    `incarnation` counts the pipelines of the name that were deleted before, here and in what datasets say.
    """

    pipeline: str
    spec: PipelineSpec
    partitions: int
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class PipelineDeleted:
    """The end of a pipeline: nothing that it still says counts."""

    pipeline: str
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class DatasetRequested:
    """A dataset of everything clean is wanted now; with a backfill, one of the history that takes it in."""

    pipeline: str
    request_id: str
    incarnation: int = 0
    backfill: Backfill | None = None


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Rows by split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True, slots=True)
class SourceRange:
    """A half-open range of offsets in one partition of the producers' topic."""

    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class DatasetFrozen:
    """An immutable dataset. `request_id` is empty when no request led to it."""

    pipeline: str
    dataset_id: str
    spec_digest: str
    manifest: Artifact
    rows: SplitRows
    sources: tuple[SourceRange, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    request_id: str = ""
    incarnation: int = 0
    repeated_keys: int = 0
    late_rows: int = 0
    segments: int = 0
    segment_rows: int = 0
    backfilled: Backfilled | None = None
    masked: Mapping[str, int] = field(default_factory=dict)
    rarest: ClassRows | None = None
    leaks: Leaks | None = None
    unread: Mapping[str, int] = field(default_factory=dict)
    outliers: tuple[Outliers, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetFailed:
    """A freeze that came to nothing. `request_id` is empty when no request led to it."""

    pipeline: str
    reason: str
    request_id: str = ""
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class DatasetReference:
    """A frozen dataset and where its manifest is."""

    dataset_id: str
    manifest: Artifact


@dataclass(frozen=True, slots=True)
class VersionReference:
    """A version with what is needed to run it, or to begin from it; old events have no `weights`."""

    version_id: str
    graph: Artifact
    dataset: DatasetReference
    weights: Artifact | None = None


@dataclass(frozen=True, slots=True)
class TrainingRequested:
    """One training run is wanted. `origin` is the version that it begins from, None for the seed."""

    run_id: str
    pipeline: str
    dataset: DatasetReference
    spec: PipelineSpec
    origin: VersionReference | None = None


@dataclass(frozen=True, slots=True)
class TrainingHeld:
    """A training run that begins when the pipeline's candidate under way is released, refused or failed."""

    run_id: str
    pipeline: str
    dataset: DatasetReference
    spec: PipelineSpec


@dataclass(frozen=True, slots=True)
class TrainingRefused:
    """A training run that never begins: it would spend more privacy of a topic's rows than its pipeline allows."""

    run_id: str
    pipeline: str
    dataset: DatasetReference
    spec: PipelineSpec
    reason: str


@dataclass(frozen=True, slots=True)
class TrainingSuperseded:
    """A held training run that never begins: a newer one takes its place."""

    run_id: str
    pipeline: str
    reason: str


@dataclass(frozen=True, slots=True)
class CompressionRequested:
    """One compression run is wanted; `champion` is None with nothing to compare, `cpu_class` empty for any of them."""

    run_id: str
    pipeline: str
    candidate: VersionReference
    champion: VersionReference | None
    spec: PipelineSpec
    cpu_class: str = ""


@dataclass(frozen=True, slots=True)
class RunFailed:
    """A run that will give no result."""

    run_id: str
    pipeline: str
    kind: RunKind
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    """What a training run tells of one row of its training split at most."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class ModelTrained:
    """A training run that ended with a version. Old events have no `task`; an empty `measure` is the task's own."""

    run_id: str
    pipeline: str
    model: str
    version_id: str
    dataset_id: str
    manifest: Artifact
    graph: Artifact
    weights: Artifact
    metrics: Mapping[str, float] = field(default_factory=dict)
    attempt: int = 1
    epochs: int = 0
    task: str = ""
    measure: str = ""
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    trials: tuple[Trial, ...] = ()
    gpu_s: float = 0.0
    cost: float | None = None
    currency: str = ""
    privacy: PrivacySpent | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One compressed form of a version, what was measured of it, in milliseconds, and how it came about."""

    name: str
    graph: Artifact
    metrics: Mapping[str, float] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one version scored on the test split of one dataset."""

    version_id: str
    dataset_id: str
    rows: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    task: str = ""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """A variant that was asked for and has nothing to do with its version."""

    variant: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelCompressed:
    """A compression run that ended. `champion_id` is empty when there was nothing to compare with."""

    run_id: str
    pipeline: str
    version_id: str
    variants: tuple[Variant, ...]
    evaluations: tuple[Evaluation, ...] = ()
    champion_id: str = ""
    cpu_class: str = ""
    attempt: int = 1
    not_applicable: tuple[NotApplicable, ...] = ()
    joined: tuple[Evaluation, ...] = ()


@dataclass(frozen=True, slots=True)
class Upstream:
    """Servers outside of the replicas that have a model, what it is called there, and the name of their key."""

    urls: tuple[str, ...]
    model: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class ModelReleased:
    """An alias that moved. `epoch` grows by one with each release of the same model and alias, from 1.

    `cache_ttl_s` is 0 in releases of before it was recorded, `reason` is empty when a candidate was released. Where
    `classes` is empty, as in releases of before there were any, `graph` is served on every class of processors; else
    `unmeasured` is on those that are not among them; where it is None too, they keep what they have.
    """

    model: str
    alias: str
    epoch: int
    version_id: str
    ordinal: int
    variant: str
    graph: Artifact
    pipeline: str
    dataset_id: str
    run_id: str
    gates: tuple[GateResult, ...] = ()
    cache: CachePolicy = CachePolicy.REDIS
    cache_ttl_s: int = 0
    reason: str = ""
    classes: tuple[ClassVariants, ...] = ()
    unmeasured: ServedVariant | None = None
    degrade: bool = False
    upstream: Upstream | None = None
    withholds: bool = False


@dataclass(frozen=True, slots=True)
class ModelRefused:
    """A version that was not released, and why."""

    model: str
    version_id: str
    pipeline: str
    reason: str
    gates: tuple[GateResult, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelWithdrawn:
    """An alias that was taken away; `epoch` is that of the release that was in force."""

    model: str
    alias: str
    epoch: int
    pipeline: str


@dataclass(frozen=True, slots=True)
class VersionRetired:
    """A version that is kept no longer: it cannot be served again, and what it is made of may be gone."""

    pipeline: str
    model: str
    version_id: str


Decision: TypeAlias = (
    PipelineApplied
    | TrainingRequested
    | TrainingHeld
    | TrainingRefused
    | TrainingSuperseded
    | CompressionRequested
    | ModelReleased
    | ModelRefused
    | ModelWithdrawn
    | VersionRetired
)
"""What the policy decides."""

Fact: TypeAlias = (
    PipelineApplied
    | PipelineDeleted
    | DatasetRequested
    | DatasetFrozen
    | DatasetFailed
    | ModelTrained
    | ModelCompressed
    | RunFailed
)
"""What the registry learns: from other services, or from a caller of its write methods."""

Event: TypeAlias = Fact | Decision
"""What a line of the log holds."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the registry's log: an event, and when the registry wrote it (UTC)."""

    occur_time: datetime
    event: Event
