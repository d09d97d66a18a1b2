"""Pipelines: their specs and their ends."""

from dataclasses import dataclass


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
