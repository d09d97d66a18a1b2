"""Models: versions that were trained and compressed, and what is served."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.classes import ClassVariants, GateResult, ServedVariant
from headrace_model_registry.core.facts.rollouts import RolloutStage
from headrace_model_registry.core.facts.trial import Trial


class CachePolicy(IntEnum):
    """Where hot predictions of a model are kept."""

    UNSPECIFIED = 0
    REDIS = 1
    AUTO = 2
    OFF = 3


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
    `unmeasured` is on those that are not among them; where it is None too, they keep what they have. `stage` and
    `share` (percent of the calls) are those of a candidate in its rollout.
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
    stage: RolloutStage = RolloutStage.UNSPECIFIED
    share: int = 0
    records: bool = False


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
