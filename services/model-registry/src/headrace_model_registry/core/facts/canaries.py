"""Canaries on rows of the past: a version held against another before any alias moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from headrace_model_registry.core.facts.backfill import Artifact


class CanaryVerdict(IntEnum):
    """How a version does beside another."""

    UNSPECIFIED = 0
    BETTER = 1
    WORSE = 2
    ALIKE = 3


@dataclass(frozen=True, slots=True)
class CanaryRows:
    """The rows of a history's segments, as far back from the latest event time."""

    history: Artifact
    last_s: int


@dataclass(frozen=True, slots=True)
class CanaryFigure:
    """One measurement of both versions, and the interval of the first less the second."""

    name: str
    rows: int
    candidate: float
    champion: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CanaryJudged:
    """What a version scores beside another on the same rows; `measure` decided."""

    run_id: str
    pipeline: str
    version_id: str
    champion_id: str
    rows: int
    unseen_rows: int
    segments: int
    since_us: int
    until_us: int
    measure: str
    verdict: CanaryVerdict
    measures: tuple[CanaryFigure, ...] = ()
    slices: tuple[CanaryFigure, ...] = ()
    alike: Mapping[str, float] = field(default_factory=dict)
    certainty: float = 0.0
    attempt: int = 1
