"""Whether a candidate goes on to the next step of its rollout, goes back, or waits: pure functions of what was counted.

Every count only grows, so what replicas tell may come late, twice or in any order: of each replica the most is taken,
and these are added up. What fails is told from what is merely not yet known: a limit is passed as soon as it could not
be kept any more within the calls that a step asks for, and a step ends no sooner than its time and its calls are over.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from itertools import zip_longest
from math import ceil
from typing import Any, Final

from headrace_data.spec import Rollout as Plan

from headrace_model_registry.core.facts.rollouts import (
    RolloutAdvanced,
    RolloutCounts,
    RolloutEnded,
    RolloutOutcome,
    RolloutQuality,
    RolloutStage,
)
from headrace_model_registry.core.live import Live, known_of, why_worse

FIRST_S: Final = 1e-5
"""What the first place of a count of times begins with (s); each place is a fourth of an octave."""
PLACES_OF_AN_OCTAVE: Final = 4
TIMED_CALLS: Final = 30
"""Calls of either version before their times are compared."""
UNSEEN_S: Final = 0.001
"""A candidate that takes less than this longer (s) is not slow."""


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """A rollout under way: the step it is in, and since when (aware)."""

    advanced: RolloutAdvanced
    begin_time: datetime

    @property
    def pipeline(self) -> str:
        """Name of the pipeline whose version it is of."""
        return self.advanced.pipeline


@dataclass(frozen=True, slots=True)
class EndedRollout:
    """A rollout that is over: the step that it was in, its end, and when that was (aware)."""

    record: RolloutRecord
    ended: RolloutEnded
    end_time: datetime


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as callers see it. Under way `end_time` is None, and `reason` says what it waits for."""

    pipeline: str
    model: str
    version_id: str
    ordinal: int
    stage: RolloutStage
    share: int
    step: int
    steps: int
    begin_time: datetime
    reason: str
    outcome: RolloutOutcome = RolloutOutcome.UNSPECIFIED
    end_time: datetime | None = None
    counts: RolloutCounts | None = None
    quality: RolloutQuality | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What all replicas counted in one step, and why the candidate does not load on one, empty where it does.

    `live` is what is known of the quality of answers, None where it is not measured live.
    """

    counts: RolloutCounts = field(default_factory=RolloutCounts)
    fault: str = ""
    live: Live | None = None

    @property
    def quality(self) -> RolloutQuality | None:
        """The figures of that, as they are recorded."""
        return self.live.quality if self.live else None


@dataclass(frozen=True, slots=True)
class Waits:
    """Nothing follows yet, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Advances:
    """The next step begins, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ends:
    """The rollout ends without a new champion, and why."""

    reason: str
    outcome: RolloutOutcome = RolloutOutcome.ROLLED_BACK


def merged(one: RolloutCounts, other: RolloutCounts) -> RolloutCounts:
    """Return the most that one replica told: the same whichever was told first, and however often."""
    return _joined((one, other), max)


def added(counts: Iterable[RolloutCounts]) -> RolloutCounts:
    """Return what all replicas counted."""
    return _joined(tuple(counts), lambda *values: sum(values))


def _joined(counts: Sequence[RolloutCounts], join: Callable[..., int]) -> RolloutCounts:
    if len(counts) < 2:
        return counts[0] if counts else RolloutCounts()
    values: dict[str, Any] = {}
    for name in [each.name for each in fields(RolloutCounts)]:
        own = [getattr(each, name) for each in counts]
        if isinstance(own[0], tuple):
            values[name] = tuple(join(*places) for places in zip_longest(*own, fillvalue=0))
        else:
            values[name] = join(*own)
    return RolloutCounts(**values)


def judged(record: RolloutRecord, plan: Plan, observed: Observed, moment: datetime) -> Waits | Advances | Ends:
    """Return what follows in a rollout from what was observed in its step until a moment (aware)."""
    if reason := why_back(record, plan, observed):
        return Ends(reason)
    step, counts = plan.steps[record.advanced.step], observed.counts
    lasted_s = (moment - record.begin_time).total_seconds()
    answered = f"{counts.candidate_calls} of {plan.calls} calls"
    if counts.candidate_calls < plan.calls:
        if lasted_s >= plan.within:
            return Ends(f"{_where(record.advanced)}: only {answered} came within {plan.within:g} s")
        return Waits(f"{answered} have come")
    if lasted_s < step.least_s:
        return Waits(f"{step.least_s - lasted_s:.0f} s are left")
    found = filter(None, (told(counts), known_of(observed.live, plan)))
    return Advances(f"{_where(record.advanced)}: {'; '.join(found)}")


def why_back(record: RolloutRecord, plan: Plan, observed: Observed) -> str:
    """Return why a candidate must go back, empty when nothing speaks against it."""
    counts, where = observed.counts, _where(record.advanced)
    if observed.fault:
        return f"{where}: it does not load: {observed.fault}"
    if counts.not_finite:
        return f"{where}: answers that are no finite numbers, {counts.not_finite} of {_looked_at(counts)} calls"
    if counts.failed > plan.errors * max(plan.calls, _looked_at(counts)):
        return f"{where}: {counts.failed} of {_looked_at(counts)} calls failed, limit {plan.errors:.2%}"
    if reason := _why_slow(counts, plan.latency) or why_worse(observed.live, plan):
        return f"{where}: {reason}"
    enough = counts.candidate_calls >= plan.calls and counts.compared
    if plan.alike is not None and enough:
        found = 1 - counts.differing / counts.compared
        if found < plan.alike:
            return f"{where}: {found:.2%} of the answers are the champion's, limit {plan.alike:.2%}"
    return ""


def told(counts: RolloutCounts) -> str:
    """Return what was counted, for a person."""
    said = [f"{counts.candidate_calls} calls computed, {counts.failed} failed"]
    times = median_s(counts.candidate_times), median_s(counts.champion_times)
    if all(times):
        said.append(f"median {times[0] * 1e3:.3g} ms, the champion's {times[1] * 1e3:.3g} ms")
    if counts.compared:
        said.append(f"{1 - counts.differing / counts.compared:.2%} of the answers are the champion's")
    return ", ".join(said)


def median_s(times: Sequence[int]) -> float:
    """Return the median of times by their counts, in seconds: the middle of its place; 0 without any."""
    half, seen = ceil(sum(times) / 2), 0
    for place, count in enumerate(times):
        seen += count
        if count and seen >= half:
            return float(FIRST_S * 2 ** ((place + 0.5) / PLACES_OF_AN_OCTAVE))
    return 0.0


def _why_slow(counts: RolloutCounts, limit: float) -> str:
    if min(sum(counts.champion_times), sum(counts.candidate_times)) < TIMED_CALLS:
        return ""
    champion_s, candidate_s = median_s(counts.champion_times), median_s(counts.candidate_times)
    if candidate_s <= limit * champion_s or candidate_s - champion_s < UNSEEN_S:
        return ""
    return (
        f"slow: its computations take {candidate_s * 1e3:.3g} ms, the champion's {champion_s * 1e3:.3g} ms "
        f"(medians), limit {limit:g} times as long"
    )


def _looked_at(counts: RolloutCounts) -> int:
    return counts.candidate_calls + counts.failed + counts.not_finite


def _where(advanced: RolloutAdvanced) -> str:
    return "in the shadow" if advanced.stage is RolloutStage.SHADOW else f"with {advanced.share} % of the calls"


def shown(record: RolloutRecord, plan: Plan, observed: Observed, moment: datetime) -> Rollout:
    """Return a rollout under way as callers see it at a moment (aware)."""
    reason = judged(record, plan, observed, moment).reason
    return _shown(record, plan, reason, observed.counts, observed.quality)


def shown_ended(ended: EndedRollout, plan: Plan) -> Rollout:
    """Return a rollout that is over as callers see it."""
    told = _shown(ended.record, plan, ended.ended.reason, ended.ended.counts, ended.ended.quality)
    return replace(told, outcome=ended.ended.outcome, end_time=ended.end_time)


def _shown(
    record: RolloutRecord, plan: Plan, reason: str, counts: RolloutCounts | None, quality: RolloutQuality | None
) -> Rollout:
    of = record.advanced
    return Rollout(
        pipeline=of.pipeline,
        model=of.model,
        version_id=of.version_id,
        ordinal=of.ordinal,
        stage=of.stage,
        share=of.share,
        step=of.step,
        steps=len(plan.steps),
        begin_time=record.begin_time,
        reason=reason,
        counts=counts,
        quality=quality,
    )
