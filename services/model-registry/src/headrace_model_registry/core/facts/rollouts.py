"""Rollouts: the steps in which a candidate takes the champion's place, and what was counted in them."""

from dataclasses import dataclass
from enum import IntEnum

from headrace_model_registry.core.facts.evaluation import Bounded


class RolloutStage(IntEnum):
    """What a candidate does beside the champion."""

    UNSPECIFIED = 0
    SHADOW = 1
    CANARY = 2


class RolloutOutcome(IntEnum):
    """How a rollout ended."""

    UNSPECIFIED = 0
    PROMOTED = 1
    ROLLED_BACK = 2
    ABORTED = 3
    SUPERSEDED = 4


@dataclass(frozen=True, slots=True)
class RolloutCounts:
    """What was counted in one step. Every number only grows; times are counted by how long they were, as told there."""

    champion_calls: int = 0
    candidate_calls: int = 0
    failed: int = 0
    not_finite: int = 0
    skipped: int = 0
    compared: int = 0
    differing: int = 0
    champion_times: tuple[int, ...] = ()
    candidate_times: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RolloutQuality:
    """How good answers to the calls of a canary were, as far as labels have come; measures are None without any."""

    candidate: Bounded | None = None
    candidate_rows: int = 0
    champion: Bounded | None = None
    champion_rows: int = 0


@dataclass(frozen=True, slots=True)
class RolloutAdvanced:
    """A candidate begins a step of its rollout; `counts` are of the step before, None of the first.

    `quality` is of all its steps so far, None where it is not measured live.
    """

    pipeline: str
    model: str
    version_id: str
    ordinal: int
    spec_digest: str
    step: int
    epoch: int
    stage: RolloutStage
    share: int
    reason: str
    counts: RolloutCounts | None = None
    quality: RolloutQuality | None = None


@dataclass(frozen=True, slots=True)
class RolloutEnded:
    """A rollout is over; `counts` are of its last step, None where nothing was looked at; `quality` as above."""

    pipeline: str
    model: str
    version_id: str
    ordinal: int
    outcome: RolloutOutcome
    reason: str
    counts: RolloutCounts | None = None
    quality: RolloutQuality | None = None
