"""What callers wish for: granted or refused like a fact, and not recorded itself, only what follows from it."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from headrace_model_registry.core.facts import Fact
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.rollout import Observed


@dataclass(frozen=True, slots=True)
class PartitionsAdded:
    """A wish: the record topics of a pipeline have grown with their producers' topic, and may be used."""

    pipeline: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Rollback:
    """A caller's wish to serve an earlier release again. It is not recorded, the release that follows from it is.

    `ordinal` is the version's, or 0 for the version that was served before the current one.
    """

    model: str
    ordinal: int = 0


@dataclass(frozen=True, slots=True)
class Recalibration:
    """A caller's wish to make the variants of a model's champion again, with rows of the newest dataset."""

    model: str


@dataclass(frozen=True, slots=True)
class Retirement:
    """A wish: versions that no pipeline retains at a moment (aware) may go."""

    moment: datetime


@dataclass(frozen=True, slots=True)
class RolloutLook:
    """A wish: what was counted of a candidate until a moment (aware) may move it. `epoch` is that of its release."""

    model: str
    epoch: int
    observed: Observed
    moment: datetime


@dataclass(frozen=True, slots=True)
class RolloutOrder:
    """A caller's wish: the candidate of a model begins its next step now, or goes."""

    model: str
    advance: bool


@dataclass(frozen=True, slots=True)
class Canary:
    """A caller's wish to hold a version against another on rows of the past: `last_s` of them, of a history's segments.

    Versions are named by ordinal, alias or the beginning of a digest; `history` is None where nothing was cut.
    """

    model: str
    version: str
    against: str
    last_s: int
    history: Artifact | None = None


Wish: TypeAlias = Rollback | Recalibration | PartitionsAdded | Retirement | RolloutLook | RolloutOrder | Canary
"""What is not recorded itself, only what follows from it."""

Input: TypeAlias = Fact | Wish
"""What the policy is asked about."""
