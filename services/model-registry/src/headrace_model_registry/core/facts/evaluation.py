"""Evaluations of what is served on rows that nothing has learned from yet, and what was decided by them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace_model_registry.core.facts.datasets import SegmentReference
from headrace_model_registry.core.facts.pipelines import PipelineSpec
from headrace_model_registry.core.facts.runs import VersionReference


@dataclass(frozen=True, slots=True)
class EvaluationRequested:
    """One evaluation is wanted, of the version that is served on a new segment."""

    run_id: str
    pipeline: str
    version: VersionReference
    segment: SegmentReference
    spec: PipelineSpec


@dataclass(frozen=True, slots=True)
class Bounded:
    """A measurement and the interval in which the true value lies."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scored:
    """What a version scores on some rows."""

    rows: int
    measures: tuple[Bounded, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)

    def of(self, measure: str) -> Bounded | None:
        """Return what was measured by a measure, None where it was not."""
        return next((each for each in self.measures if each.name == measure), None)


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a field moved, or the answers where it is empty.

    Where nothing moved it is `chance` on average, and stays under `bound`.
    """

    field: str
    measure: str
    value: float
    chance: float
    bound: float

    @property
    def excess(self) -> float:
        """What is left of it without chance."""
        return max(0.0, self.value - self.chance)

    @property
    def is_no_chance(self) -> bool:
        """Whether something moved."""
        return self.value > self.bound


@dataclass(frozen=True, slots=True)
class ModelEvaluated:
    """An evaluation that ended. `before` is of the test split of the version's own dataset, `now` of the segment."""

    run_id: str
    pipeline: str
    version_id: str
    segment_id: str
    task: str
    before: Scored
    now: Scored
    certainty: float = 0.0
    inputs: tuple[Drift, ...] = ()
    answers: Drift | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class TrainingDecided:
    """Whether a dataset is trained on, and why. `age_s` is in seconds, `rows` those since the version's dataset."""

    pipeline: str
    dataset_id: str
    trained: bool
    reason: str
    cause: str
    version_id: str = ""
    ordinal: int = 0
    segment_id: str = ""
    run_id: str = ""
    before: Bounded | None = None
    now: Bounded | None = None
    drift: Drift | None = None
    age_s: int = 0
    rows: int = 0
