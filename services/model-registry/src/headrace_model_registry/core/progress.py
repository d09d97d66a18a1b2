"""What services tell of their work while it goes on: shown, and never recorded.

Plain values as in `facts`, one class per message of the contracts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from headrace_model_registry.core.facts import Bounded, RolloutCounts, RunKind


@dataclass(frozen=True, slots=True)
class PipelineTroubled:
    """What is wrong with a part of a pipeline; an empty reason when nothing is any more.

    It is taken to be over after `valid_s` seconds unless it is told again, and stays when that is 0.
    """

    pipeline: str
    part: str
    instance: str
    subject: str
    reason: str
    occur_time: datetime
    valid_s: int = 0


@dataclass(frozen=True, slots=True)
class DatasetProgressed:
    """How many clean rows wait for the next freeze. `rows_wanted` is 0 when the pipeline sets no number."""

    pipeline: str
    rows: int
    rows_wanted: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    incarnation: int = 0
    awaiting_labels: int = 0


@dataclass(frozen=True, slots=True)
class RunProgressed:
    """How far a run is; `eta_s` is in seconds."""

    run_id: str
    pipeline: str
    kind: RunKind
    attempt: int
    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    eta_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QualityMeasured:
    """How good the answers of one version were, of which the labels came later."""

    pipeline: str
    incarnation: int
    model: str
    version_id: str
    rows: int
    metrics: Mapping[str, float]
    awaiting_labels: int
    unlabelled: int
    unmeasured: int
    since_time: datetime
    tried_version_id: str = ""
    """Version of the candidate whose canary's calls alone it is of; empty for all answers."""
    compared: Bounded | None = None


@dataclass(frozen=True, slots=True)
class RolloutObserved:
    """What one replica counted since a candidate's release of this epoch; `fault` is why it does not load there."""

    pipeline: str
    model: str
    epoch: int
    replica: str
    counts: RolloutCounts
    fault: str = ""


Progress: TypeAlias = DatasetProgressed | RunProgressed | PipelineTroubled | QualityMeasured | RolloutObserved
"""What is shown and never recorded."""
