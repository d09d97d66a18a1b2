"""Held segments: what is suspected of them, and what becomes of them."""

from dataclasses import dataclass
from enum import IntEnum

from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.ranges import SourceRange


class HoldVerdict(IntEnum):
    """What becomes of a held segment."""

    UNSPECIFIED = 0
    ACCEPT = 1
    DROP = 2


@dataclass(frozen=True, slots=True)
class Hold:
    """An order: what becomes of a held segment."""

    segment_id: str
    verdict: HoldVerdict


class HoldState(IntEnum):
    """Where a suspected segment stands."""

    UNSPECIFIED = 0
    HELD = 1
    ACCEPTED = 2
    DROPPED = 3


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One figure that changed more than its bound; `field` is empty where it is of all records."""

    field: str
    figure: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class HeldSegment:
    """A segment that is suspected, and where it stands."""

    segment_id: str
    manifest: Artifact
    rows: int
    sources: tuple[SourceRange, ...]
    suspicions: tuple[Suspicion, ...]
    state: HoldState
