"""Rollouts as people and scripts see them."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.events.v1.evaluation_pb2 import Bounded
from headrace.events.v1.rollout_pb2 import (
    ROLLOUT_STAGE_SHADOW,
    RolloutCounts,
    RolloutOutcome,
    RolloutQuality,
    RolloutStage,
)
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_data.tasks import TASKS

from headrace_client.views import View

MEASURES = {name: measure for task in TASKS.values() for name, measure in task.measures.items()}
"""The measures of all tasks by name, those first that a task shows first."""
FIRST_S = 1e-5
"""What the first place of counts of times begins with (s); each place is a fourth of an octave."""


def rollout_view(rollout: messages.Rollout) -> View:
    """Return a rollout: the candidate, its step, what was counted in it and how it ended, null where it has not."""
    return {
        "pipeline": rollout.pipeline,
        "model": rollout.model,
        "version_id": rollout.version_id,
        "ordinal": rollout.ordinal,
        "stage": RolloutStage.Name(rollout.stage).removeprefix("ROLLOUT_STAGE_").lower(),
        "share": rollout.share,
        "step": rollout.step,
        "steps": rollout.steps,
        "begin_time": rollout.begin_time.ToJsonString(),
        "reason": rollout.reason,
        "text": text_of(rollout),
        "outcome": outcome(rollout) or None,
        "end_time": rollout.end_time.ToJsonString() if rollout.HasField("end_time") else None,
        "counts": _counts(rollout.counts) if rollout.HasField("counts") else None,
        "quality": _quality(rollout.quality) if rollout.HasField("quality") else None,
    }


def outcome(rollout: messages.Rollout) -> str:
    """Return how a rollout ended, in a word or two; empty while it is under way."""
    if not rollout.outcome:
        return ""
    return RolloutOutcome.Name(rollout.outcome).removeprefix("ROLLOUT_OUTCOME_").lower().replace("_", " ")


def where(rollout: messages.Rollout) -> str:
    """Return what a candidate does, or did last: "computes in the shadow" or "answers 10 % of the calls"."""
    if rollout.stage == ROLLOUT_STAGE_SHADOW:
        return "computes in the shadow"
    return f"answers {rollout.share} % of the calls"


def text_of(rollout: messages.Rollout) -> str:
    """Return where a rollout stands, or stood last, in one line."""
    return f"version {rollout.ordinal} {where(rollout)} (step {rollout.step + 1} of {rollout.steps}): {rollout.reason}"


def quality_text(quality: View) -> str:
    """Return how good the answers of both were, in one line; empty before either has a label."""
    arms = [(name, quality[name], quality[f"{name}_rows"]) for name in ("candidate", "champion")]
    return ", ".join(
        f"the {name}'s {measure_text(found['name'], found['value'])} of {rows} answered rows with a label"
        for name, found, rows in arms
        if found is not None
    )


def measure_text(name: str, value: float) -> str:
    """Return what was measured, for a sentence: "accuracy 0.9500"."""
    return f"{name} {MEASURES[name].text(value) if name in MEASURES else f'{value:.4f}'}"


def _quality(quality: RolloutQuality) -> View:
    return {
        "candidate": _bounded(quality.candidate) if quality.HasField("candidate") else None,
        "candidate_rows": quality.candidate_rows,
        "champion": _bounded(quality.champion) if quality.HasField("champion") else None,
        "champion_rows": quality.champion_rows,
    }


def _bounded(bounded: Bounded) -> View:
    return {"name": bounded.name, "value": bounded.value, "low": bounded.low, "high": bounded.high}


def _counts(counts: RolloutCounts) -> View:
    numbers = ("champion_calls", "candidate_calls", "failed", "not_finite", "skipped", "compared", "differing")
    return {
        **{name: getattr(counts, name) for name in numbers},
        "champion_median_s": median_s(counts.champion_times),
        "candidate_median_s": median_s(counts.candidate_times),
    }


def median_s(times: Sequence[int]) -> float | None:
    """Return the median of counted times in seconds, the middle of its place; None without any."""
    half, seen = (sum(times) + 1) // 2, 0
    for place, count in enumerate(times):
        seen += count
        if count and seen >= half:
            return float(FIRST_S * 2 ** ((place + 0.5) / 4))
    return None
