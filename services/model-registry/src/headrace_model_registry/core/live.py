"""Whether a candidate answers worse than the champion, by the labels of the calls of its canary: pure functions.

It is worse where even the end of both intervals that speaks for it leaves more lost than is allowed, as
`headrace_model_registry.core.deciding` has it. It is looked at again with every label, so the interval of the
difference grows wider with the number of looks: see `headrace_data.bounds.widened`. What is in doubt goes on.
"""

from dataclasses import dataclass
from typing import Final

from headrace_data.bounds import least_loss, widened
from headrace_data.spec import Rollout as Plan
from headrace_data.tasks import Measure

from headrace_model_registry.core.facts import Bounded
from headrace_model_registry.core.facts.rollouts import RolloutQuality

LEAST_ROWS: Final = 30
"""Labels of either version's answers at least: of fewer an interval says little."""


@dataclass(frozen=True, slots=True)
class Live:
    """What is known of the answers of both, and the measure by which the pipeline compares versions."""

    quality: RolloutQuality
    measure: Measure


def why_worse(live: Live | None, plan: Plan) -> str:
    """Return what shows that a candidate answers worse than the champion, empty where nothing does."""
    if live is None or (found := _both(live, plan)) is None:
        return ""
    candidate, champion = found
    least, allowed = _least_loss(live, plan, candidate, champion), plan.worse * abs(champion.value)
    if least <= allowed:
        return ""
    limit = f", more than {live.measure.text(allowed)}" if allowed else ""
    return f"worse: {_figures(live, candidate, champion)}: by {live.measure.text(least)} at least{limit}"


def known_of(live: Live | None, plan: Plan) -> str:
    """Return what is known of the answers of both, for a person; empty where nothing is measured live."""
    if live is None:
        return ""
    quality = live.quality
    if (found := _both(live, plan)) is None:
        rows = f"{quality.candidate_rows} of its answers and {quality.champion_rows} of the champion's"
        return f"live quality is in doubt: {rows} have their label, and {_least_rows(plan)} of either tell something"
    beyond = " and serve.rollout.worse allow" if plan.worse else " explains"
    return f"{_figures(live, *found)}: no more lost than chance{beyond}"


def _both(live: Live, plan: Plan) -> tuple[Bounded, Bounded] | None:
    quality, least = live.quality, _least_rows(plan)
    candidate, champion = quality.candidate, quality.champion
    if candidate is None or champion is None or min(quality.candidate_rows, quality.champion_rows) < least:
        return None
    # Of a pipeline whose spec compares by another measure since, there is none.
    return (candidate, champion) if candidate.name == champion.name == live.measure.name else None


def _least_rows(plan: Plan) -> int:
    return max(plan.calls, LEAST_ROWS)


def _least_loss(live: Live, plan: Plan, candidate: Bounded, champion: Bounded) -> float:
    rows = min(live.quality.candidate_rows, live.quality.champion_rows)
    return least_loss(live.measure, champion, candidate, widened(rows, _least_rows(plan)))


def _figures(live: Live, candidate: Bounded, champion: Bounded) -> str:
    text, quality = live.measure.text, live.quality
    return (
        f"{candidate.name} is {text(candidate.value)} ({text(candidate.low)} to {text(candidate.high)}) of "
        f"{quality.candidate_rows} answered rows with a label, the champion's {text(champion.value)} "
        f"({text(champion.low)} to {text(champion.high)}) of {quality.champion_rows}"
    )
