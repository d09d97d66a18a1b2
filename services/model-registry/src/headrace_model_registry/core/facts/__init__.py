"""What the registry learns and what it decides: plain values, one class per message of the contracts.

A class has the name and the fields of its protobuf message: one converter maps all (`transport/converters.py`). A field
that may be unset is `X | None`. Digests are "sha256:" and 64 hexadecimal digits, names and ids are not empty.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from headrace_model_registry.core.facts.canaries import CanaryFigure, CanaryJudged, CanaryRows, CanaryVerdict
from headrace_model_registry.core.facts.datasets import (
    DatasetFailed,
    DatasetFrozen,
    DatasetReference,
    DatasetRequested,
    SegmentReference,
    SplitRows,
)
from headrace_model_registry.core.facts.evaluation import (
    Bounded,
    Drift,
    EvaluationRequested,
    ModelEvaluated,
    Scored,
    TrainingDecided,
)
from headrace_model_registry.core.facts.forgotten import KeyForgotten
from headrace_model_registry.core.facts.models import (
    CachePolicy,
    Evaluation,
    ModelCompressed,
    ModelRefused,
    ModelReleased,
    ModelTrained,
    ModelWithdrawn,
    NotApplicable,
    PrivacySpent,
    Upstream,
    Variant,
    VersionRetired,
)
from headrace_model_registry.core.facts.pipelines import PipelineApplied, PipelineDeleted, PipelineSpec
from headrace_model_registry.core.facts.ranges import SourceRange
from headrace_model_registry.core.facts.rollouts import (
    RolloutAdvanced,
    RolloutCounts,
    RolloutEnded,
    RolloutOutcome,
    RolloutQuality,
    RolloutStage,
)
from headrace_model_registry.core.facts.runs import (
    CompressionRequested,
    RunFailed,
    RunKind,
    TrainingHeld,
    TrainingRefused,
    TrainingRequested,
    TrainingSuperseded,
    VersionReference,
)

__all__ = [
    "CANDIDATE",
    "CHAMPION",
    "Bounded",
    "CachePolicy",
    "CanaryFigure",
    "CanaryJudged",
    "CanaryRows",
    "CanaryVerdict",
    "CompressionRequested",
    "DatasetFailed",
    "DatasetFrozen",
    "DatasetReference",
    "DatasetRequested",
    "Decision",
    "Drift",
    "Evaluation",
    "EvaluationRequested",
    "Event",
    "Fact",
    "KeyForgotten",
    "LogEntry",
    "ModelCompressed",
    "ModelEvaluated",
    "ModelRefused",
    "ModelReleased",
    "ModelTrained",
    "ModelWithdrawn",
    "NotApplicable",
    "PipelineApplied",
    "PipelineDeleted",
    "PipelineSpec",
    "PrivacySpent",
    "RolloutAdvanced",
    "RolloutCounts",
    "RolloutEnded",
    "RolloutOutcome",
    "RolloutQuality",
    "RolloutStage",
    "RunFailed",
    "RunKind",
    "Scored",
    "SegmentReference",
    "SourceRange",
    "SplitRows",
    "TrainingDecided",
    "TrainingHeld",
    "TrainingRefused",
    "TrainingRequested",
    "TrainingSuperseded",
    "Upstream",
    "Variant",
    "VersionReference",
    "VersionRetired",
]

CHAMPION = "champion"
"""The alias that the policy moves: what inference serves."""
CANDIDATE = "candidate"
"""The alias of what may take the champion's place and is tried beside it."""

Decision: TypeAlias = (
    PipelineApplied
    | TrainingRequested
    | TrainingHeld
    | TrainingRefused
    | TrainingSuperseded
    | CompressionRequested
    | EvaluationRequested
    | TrainingDecided
    | ModelReleased
    | ModelRefused
    | ModelWithdrawn
    | VersionRetired
    | RolloutAdvanced
    | RolloutEnded
)
"""What the policy decides."""

Fact: TypeAlias = (
    PipelineApplied
    | PipelineDeleted
    | DatasetRequested
    | DatasetFrozen
    | DatasetFailed
    | KeyForgotten
    | ModelTrained
    | ModelCompressed
    | ModelEvaluated
    | CanaryJudged
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
