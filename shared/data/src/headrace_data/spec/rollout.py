"""How a version takes the champion's place, step by step, as `serve.rollout` says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import pydantic

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.scalars import Duration
from headrace_data.spec.section import Section

WHOLE: Final = 100
"""The share, in percent, at which a candidate is the champion."""


def _rising(shares: tuple[int, ...]) -> tuple[int, ...]:
    if list(shares) != sorted(set(shares)) or shares[-1] != WHOLE:
        raise ValueError(f"expected rising shares in percent, the last of them {WHOLE}")
    return shares


Share = Annotated[int, pydantic.Field(ge=1, le=WHOLE)]
Shares = Annotated[tuple[Share, ...], pydantic.Field(min_length=1, max_length=20), pydantic.AfterValidator(_rising)]
"""Shares of the calls, in percent."""


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """One step of a rollout: the share of calls in percent, 0 in the shadow, and how long it lasts at least (s)."""

    share: int
    least_s: float


class Rollout(Section):
    """A candidate beside the champion, before it takes its place."""

    shadow: Duration | None = pydantic.Field(
        default=None,
        description="How long the candidate first computes in the shadow what the champion answers, on as many calls "
        "as there is time for beside them. Left out, it begins with a share of the calls.",
    )
    canary: Shares = pydantic.Field(
        default=(1, 10, 50, WHOLE),
        description="Shares of the calls, in percent, that the candidate then answers, one after another; at 100 it is "
        "the champion. Calls with the same `rollout_key` among their parameters, else with the same id, else with the "
        "same contents, go the same way.",
    )
    every: Duration = pydantic.Field(default=600.0, description="How long each share lasts at least.")
    calls: int = pydantic.Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="How many calls the candidate has to answer in each step at least, and in the shadow to compute.",
    )
    errors: float = pydantic.Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Share of these calls that the candidate may fail where the champion answers. The champion answers "
        "them. An answer that is no finite number ends the rollout at once.",
    )
    latency: float = pydantic.Field(
        default=2.0,
        gt=1,
        le=1_000_000,
        description="How many times as long as the champion's the candidate's computations may take: the median of "
        "either. Less than a millisecond more is not looked at.",
    )
    worse: Annotated[float, pydantic.Field(ge=0, le=10)] = pydantic.Field(
        default=0.0,
        exclude_if=lambda value: not value,  # so that specs keep the digests they had before it could be said
        description="Share, such as 0.02, of the champion's measure that the candidate's may be worse, where answers "
        "are measured live (serve.quality), by the measure that versions are compared by: over rows of the canary's "
        "calls that either answered and that have their label, `calls` of either at least. A candidate that goes back "
        "is worse also at the better end of what may be true of so many rows. What is in doubt goes on.",
    )
    alike: Annotated[float, pydantic.Field(gt=0, le=1)] | None = pydantic.Field(
        default=None,
        description="Share of the answers in the shadow that have to be the champion's: the same label, or numbers "
        "within a tenth. Left out, it is told alone.",
    )
    within: Duration = pydantic.Field(
        default=7 * 86_400.0,
        description="How long a step may last: a candidate that has not had its calls by then is refused.",
    )

    @property
    def steps(self) -> tuple[RolloutStep, ...]:
        """The steps before the candidate is the champion."""
        shadow = () if self.shadow is None else (RolloutStep(0, self.shadow),)
        return (*shadow, *(RolloutStep(share, self.every) for share in self.canary if share < WHOLE))


def arrays_are_rolled_out(draft: Draft) -> Iterator[Finding]:
    """Demand a model of arrays from who rolls versions out: texts are not compared, and their servers not shared."""
    if not isinstance(draft.at("serve", "rollout"), dict):
        return
    if draft.at("train", "task") == "generation":
        yield ("serve", "rollout"), "expected none for task generation: texts are not rolled out in steps"
    elif isinstance(draft.at("serve", "engine"), dict):
        yield ("serve", "rollout"), "expected none beside serve.engine: other servers have the model"


def steps_lead_somewhere(draft: Draft) -> Iterator[Finding]:
    """Demand steps before a candidate is the champion, that can end in time, and answers that are compared."""
    rollout = draft.section(Rollout, "serve", "rollout") if isinstance(draft.at("serve", "rollout"), dict) else None
    if rollout is None:
        return
    path = ("serve", "rollout")
    if not rollout.steps:
        yield (*path, "canary"), f"expected a share below {WHOLE}, or a time in the shadow beside it, got [{WHOLE}]"
    longest_s = max((step.least_s for step in rollout.steps), default=0.0)
    if rollout.within <= longest_s:
        told = f"expected longer than the longest step, {longest_s:g} s, got {rollout.within:g} s"
        yield (*path, "within"), told
    if rollout.alike is not None and rollout.shadow is None:
        yield (*path, "alike"), "expected none without a time in the shadow, where answers are compared"
    if rollout.worse and draft.at("serve", "quality") is not True:
        yield (*path, "worse"), "expected serve.quality: true beside it, which measures answers, got none"
