"""Runs: what is asked of workers, what waits, and what came to nothing."""

from dataclasses import dataclass
from enum import IntEnum

from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.canaries import CanaryRows
from headrace_model_registry.core.facts.datasets import DatasetReference
from headrace_model_registry.core.facts.pipelines import PipelineSpec


class RunKind(IntEnum):
    """What a run does."""

    UNSPECIFIED = 0
    TRAINING = 1
    COMPRESSION = 2
    RECALIBRATION = 3
    MEASUREMENT = 4
    EVALUATION = 5
    CANARY = 6


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
    """One compression run is wanted; `champion` is None with nothing to compare, `cpu_class` empty for any of them.

    With `canary` nothing is compressed: both are held against each other on these rows.
    """

    run_id: str
    pipeline: str
    candidate: VersionReference
    champion: VersionReference | None
    spec: PipelineSpec
    cpu_class: str = ""
    canary: CanaryRows | None = None


@dataclass(frozen=True, slots=True)
class RunFailed:
    """A run that will give no result."""

    run_id: str
    pipeline: str
    kind: RunKind
    reason: str
    attempt: int = 1
