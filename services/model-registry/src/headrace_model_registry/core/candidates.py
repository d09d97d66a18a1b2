"""What is decided of candidates: when one begins its rollout, begins the next step, and is champion or goes.

A candidate is a release under an alias of its own. Its epoch grows with each step, so that what replicas count of one
step is never taken for another's.
"""

from dataclasses import replace
from datetime import datetime

from headrace_data.spec import Rollout as Plan

from headrace_model_registry.core import rollout, specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    CANDIDATE,
    CHAMPION,
    Decision,
    ModelRefused,
    ModelReleased,
    ModelWithdrawn,
    RolloutAdvanced,
    RolloutEnded,
    RolloutOutcome,
    RolloutQuality,
    RolloutStage,
)
from headrace_model_registry.core.live import Live
from headrace_model_registry.core.queries import ProgressBoard
from headrace_model_registry.core.records import Version
from headrace_model_registry.core.rollout import Advances, Ends, Observed, Rollout, RolloutRecord, Waits
from headrace_model_registry.core.wishes import RolloutLook, RolloutOrder

BY_HAND = "asked for by hand"
"""Why a candidate began a step that somebody asked for."""
ROLLED_BACK = "the champion was rolled back"
"""Why a candidate went when a rollback was asked for."""


def begun(released: ModelReleased, plan: Plan | None, spec_digest: str, catalogue: Catalogue) -> list[Decision]:
    """Return the release of a version as its pipeline has it rolled out: at once without a plan."""
    if plan is None:
        return [*overtaken(released, catalogue), released]
    reason = "it passed its gates, and is not worse than the champion"
    first = _advanced(released, plan, 0, reason, spec_digest, catalogue)
    return [*overtaken(released, catalogue), first, _release(released, first)]


def look(wish: RolloutLook, catalogue: Catalogue) -> list[Decision] | str:
    """Return what follows from what was counted of a candidate, or why nothing does."""
    record = catalogue.tried.rollouts.get(wish.model)
    if record is None or record.advanced.epoch != wish.epoch:
        return f"the candidate of model {wish.model} has begun another step, or gone"
    verdict = rollout.judged(record, plan_of(record, catalogue), wish.observed, wish.moment)
    if isinstance(verdict, Waits):
        return verdict.reason
    if isinstance(verdict, Ends):
        return _gone(record, verdict, wish.observed)
    return _next(record, verdict, wish.observed, catalogue)


def order(wish: RolloutOrder, catalogue: Catalogue) -> list[Decision] | str:
    """Return what follows from a caller's wish for a candidate, or why nothing does."""
    record = catalogue.tried.rollouts.get(wish.model)
    if record is None:
        return f"model {wish.model} has no candidate that is rolled out"
    if wish.advance:
        return _next(record, Advances(BY_HAND), None, catalogue)
    return _gone(record, Ends(BY_HAND, RolloutOutcome.ABORTED), None)


def overtaken(released: ModelReleased, catalogue: Catalogue) -> list[Decision]:
    """Return the end of a rollout beside which another version is released."""
    record = catalogue.tried.rollouts.get(released.model)
    if record is None or record.advanced.version_id == released.version_id:
        return []
    champion = catalogue.aliases.get((released.model, CHAMPION))
    if champion is not None and champion.released.version_id == released.version_id:
        return []  # it goes on serving, such as in other variants
    return _gone(record, Ends(f"version {released.ordinal} was released", RolloutOutcome.SUPERSEDED), None)


def left_alone(pipeline: str, catalogue: Catalogue) -> list[Decision]:
    """Return the release of each candidate whose champion goes with its pipeline: nobody is left to be tried beside."""
    reason = f"the champion's pipeline, {pipeline}, was deleted: nothing is served that it could be tried beside"
    return [
        decision
        for model, record in catalogue.tried.rollouts.items()
        if record.pipeline != pipeline
        and (champion := catalogue.aliases.get((model, CHAMPION))) is not None
        and champion.released.pipeline == pipeline
        for decision in _promoted(record, reason, None, catalogue)
    ]


def unwanted(champion: Version, catalogue: Catalogue) -> list[Decision]:
    """Return the end of a rollout whose spec was taken back, so that the champion is what is wanted again."""
    record = catalogue.tried.rollouts.get(champion.trained.model)
    if record is None or record.pipeline != champion.trained.pipeline:
        return []
    told = f"the champion, version {champion.ordinal}, is of the spec in force and the newest dataset again"
    return _gone(record, Ends(told, RolloutOutcome.SUPERSEDED), None)


def taken_back(model: str, catalogue: Catalogue) -> list[Decision]:
    """Return the end of a model's rollout, if there is one, because its champion is rolled back."""
    record = catalogue.tried.rollouts.get(model)
    return [] if record is None else _gone(record, Ends(ROLLED_BACK, RolloutOutcome.ABORTED), None)


def listed(catalogue: Catalogue, board: ProgressBoard, moment: datetime, model: str = "") -> list[Rollout]:
    """Return the rollouts of a model, or of all, as they stand at a moment (aware): those that are over first."""
    ended = [each for each in catalogue.tried.ended if model in ("", each.record.advanced.model)]
    going = [each for name, each in catalogue.tried.rollouts.items() if model in ("", name)]
    found = [rollout.shown_ended(each, plan_of(each.record, catalogue)) for each in ended]
    found += [rollout.shown(each, plan_of(each, catalogue), observed(each, catalogue, board), moment) for each in going]
    return found


def observed(record: RolloutRecord, catalogue: Catalogue, board: ProgressBoard) -> Observed:
    """Return what was counted in the step of a rollout, and what is known of the quality of answers."""
    of = record.advanced
    return replace(board.observed(of.model, of.epoch), live=_live(of, catalogue, board))


def _live(of: RolloutAdvanced, catalogue: Catalogue, board: ProgressBoard) -> Live | None:
    """Return what is known of the answers of a candidate and of the champion, None where nobody measures them."""
    spec, applied = catalogue.specs[of.pipeline, of.spec_digest], catalogue.pipelines.get(of.pipeline)
    champion = catalogue.champion(of.model)
    if applied is None or champion is None or not specs.records(spec):
        return None
    told = (
        board.quality(of.pipeline, applied.incarnation, version_id, of.version_id)
        for version_id in (of.version_id, champion.trained.version_id)
    )
    own, other = ((each.compared, each.rows) if each else (None, 0) for each in told)
    return Live(RolloutQuality(*own, *other), specs.quality(spec))


def plan_of(record: RolloutRecord, catalogue: Catalogue) -> Plan:
    """Return the steps of a rollout: those of the spec that it began with, whatever was applied since."""
    spec = catalogue.specs[record.advanced.pipeline, record.advanced.spec_digest]
    plan = specs.rollout(spec)
    if plan is None:
        raise AssertionError(f"spec {spec.digest} rolls nothing out")
    return plan


def _next(record: RolloutRecord, verdict: Advances, looked: Observed | None, catalogue: Catalogue) -> list[Decision]:
    """Return what begins the next step of a rollout, or makes the candidate the champion after the last one."""
    before, plan = record.advanced, plan_of(record, catalogue)
    step = before.step + 1
    if step == len(plan.steps):
        return _promoted(record, verdict.reason, looked, catalogue)
    candidate = catalogue.aliases[before.model, CANDIDATE].released
    advanced = _advanced(candidate, plan, step, verdict.reason, before.spec_digest, catalogue)
    if looked is not None:
        advanced = replace(advanced, counts=looked.counts, quality=looked.quality)
    return [advanced, _release(candidate, advanced)]


def _promoted(record: RolloutRecord, reason: str, looked: Observed | None, catalogue: Catalogue) -> list[Decision]:
    """Return what makes the candidate of a rollout the champion."""
    before = record.advanced
    candidate = catalogue.aliases[before.model, CANDIDATE].released
    champion = replace(
        candidate,
        alias=CHAMPION,
        epoch=catalogue.epoch(before.model, CHAMPION) + 1,
        stage=RolloutStage.UNSPECIFIED,
        share=0,
    )
    # The champion is told of before the candidate goes: a replica has its graph in memory until then.
    return [_ended(record, RolloutOutcome.PROMOTED, reason, looked), champion, _withdrawn(before)]


def _gone(record: RolloutRecord, verdict: Ends, looked: Observed | None) -> list[Decision]:
    """Return what ends a rollout without a new champion."""
    advanced = record.advanced
    reason = f"rollout, {verdict.outcome.name.lower().replace('_', ' ')}: {verdict.reason}"
    refused = ModelRefused(advanced.model, advanced.version_id, advanced.pipeline, reason)
    return [_ended(record, verdict.outcome, verdict.reason, looked), _withdrawn(advanced), refused]


def _ended(record: RolloutRecord, outcome: RolloutOutcome, reason: str, looked: Observed | None) -> RolloutEnded:
    of = record.advanced
    ended = RolloutEnded(of.pipeline, of.model, of.version_id, of.ordinal, outcome, reason)
    return ended if looked is None else replace(ended, counts=looked.counts, quality=looked.quality)


def _withdrawn(advanced: RolloutAdvanced) -> ModelWithdrawn:
    return ModelWithdrawn(advanced.model, CANDIDATE, advanced.epoch, advanced.pipeline)


def _advanced(
    released: ModelReleased, plan: Plan, step: int, reason: str, spec_digest: str, catalogue: Catalogue
) -> RolloutAdvanced:
    share = plan.steps[step].share
    return RolloutAdvanced(
        pipeline=released.pipeline,
        model=released.model,
        version_id=released.version_id,
        ordinal=released.ordinal,
        spec_digest=spec_digest,
        step=step,
        epoch=catalogue.epoch(released.model, CANDIDATE) + 1,
        stage=RolloutStage.CANARY if share else RolloutStage.SHADOW,
        share=share,
        reason=reason,
    )


def _release(released: ModelReleased, advanced: RolloutAdvanced) -> ModelReleased:
    return replace(released, alias=CANDIDATE, epoch=advanced.epoch, stage=advanced.stage, share=advanced.share)
