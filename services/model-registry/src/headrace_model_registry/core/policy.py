"""What follows from a fact: pure functions of what is known and what was just learned.

frozen dataset ──► training requested ──► trained ──► compression requested ──► compressed ──► released or refused

What is served is scored on the rows of each cut, and that may decide whether a dataset is trained on: `testing`.

A changed spec is trained by when the newest dataset fits it. Where spec and newest dataset are what they were before,
the version that came of them then is released again. A rollback makes an earlier release again.

A pipeline has one candidate under way, from the training run to the verdict. What is to be trained meanwhile is held:
the newest only, and what was held before is superseded. A version that learned from older data than the champion is
refused.

A fact is first asked whether it may be recorded (`objections`), then what follows from it (`decide`).
"""

from dataclasses import replace
from functools import singledispatch

from headrace_data.spec import own_name

from headrace_model_registry.core import (
    canary,
    candidates,
    gates,
    measurement,
    recalibration,
    retention,
    rollback,
    specs,
    testing,
)
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    CHAMPION,
    CompressionRequested,
    DatasetFrozen,
    Decision,
    ModelCompressed,
    ModelRefused,
    ModelReleased,
    ModelTrained,
    ModelWithdrawn,
    PipelineApplied,
    PipelineDeleted,
    PipelineSpec,
    RunFailed,
    VersionRetired,
)
from headrace_model_registry.core.objections import objection
from headrace_model_registry.core.origins import reference
from headrace_model_registry.core.records import Version
from headrace_model_registry.core.training import (
    after_the_one_under_way,
    after_the_rollout,
    wanted_run,
    working_spec,
)
from headrace_model_registry.core.verdict import (
    comparable_champion,
    may_answer,
    refusal,
    release,
    why_none_passed,
    why_useless,
    why_worse,
)
from headrace_model_registry.core.wishes import (
    Canary,
    Input,
    PartitionsAdded,
    Recalibration,
    Retirement,
    Rollback,
    RolloutLook,
    RolloutOrder,
)


@singledispatch
def _decide(fact: Input, catalogue: Catalogue) -> list[Decision]:
    return []


def decide(fact: Input, catalogue: Catalogue) -> list[Decision]:
    """Return what follows from a fact, given everything known before it. Nothing follows from what is no news."""
    if objection(fact, catalogue):
        return []
    decisions = _decide(fact, catalogue)
    if isinstance(fact, ModelTrained | ModelCompressed | RunFailed):
        decisions += after_the_one_under_way(fact, decisions, catalogue)
        # A release may end the rollout of another pipeline that feeds the model.
        decisions += after_the_rollout(decisions, catalogue, but=fact.pipeline)
    else:
        decisions += after_the_rollout(decisions, catalogue)
    decisions += testing.after(fact, decisions, catalogue)
    return decisions + measurement.wanted(fact, decisions, catalogue)


@_decide.register
def _(fact: PipelineApplied, catalogue: Catalogue) -> list[Decision]:
    # The rows are spent: without new ones no dataset would follow, and a mended spec would never be tried.
    newest = catalogue.newest_dataset(fact.pipeline)
    if newest is None:
        return []
    prepared_with = catalogue.specs[fact.pipeline, newest.frozen.spec_digest]
    return (
        testing.on_spec(newest.frozen, fact.spec, catalogue) if specs.same_preparation(fact.spec, prepared_with) else []
    )


@_decide.register
def _(fact: PipelineDeleted, catalogue: Catalogue) -> list[Decision]:
    in_force = [release.released for release in catalogue.aliases.values()]
    released_now = candidates.left_alone(fact.pipeline, catalogue)
    taken = {(each.model, each.alias) for each in released_now if isinstance(each, ModelReleased)}
    return released_now + [
        ModelWithdrawn(released.model, released.alias, released.epoch, released.pipeline)
        for released in in_force
        if released.pipeline == fact.pipeline and (released.model, released.alias) not in taken
    ]


@_decide.register
def _(fact: DatasetFrozen, catalogue: Catalogue) -> list[Decision]:
    spec = working_spec(fact.pipeline, catalogue.specs[fact.pipeline, fact.spec_digest], catalogue)
    return testing.on_frozen(fact, spec, catalogue)


@_decide.register
def _(fact: ModelTrained, catalogue: Catalogue) -> list[Decision]:
    if reason := _why_stale(fact, catalogue):
        return [ModelRefused(fact.model, fact.version_id, fact.pipeline, reason)]
    # Also without variants to make: fp32 is measured, compared and judged like any other.
    request = _compression_of(fact, catalogue)
    return [] if request.run_id in catalogue.runs else [request]


@_decide.register
def _(fact: ModelCompressed, catalogue: Catalogue) -> list[Decision]:
    run = catalogue.runs[fact.run_id]
    version = catalogue.versions[fact.pipeline, fact.version_id]
    if isinstance(run.request, CompressionRequested) and run.request.cpu_class:
        return measurement.released(fact, run.request, catalogue)
    if recalibration.is_one(run):
        return _recalibrated(fact, version, run.request.spec, catalogue)
    if reason := _why_stale(version.trained, catalogue):
        return [refusal(version, (), reason)]
    champion = comparable_champion(version.trained, catalogue)
    if fact.champion_id != (champion.trained.version_id if champion else ""):
        # Somebody else was released while this one was measured: measure again, beside the one served now.
        request = _compression_of(version.trained, catalogue)
        if request.run_id not in catalogue.runs:
            return [request]
        return [refusal(version, (), "the champion changed again and again while the version was measured")]
    results = specs.judged(fact.variants, run.request.spec)
    chosen = may_answer(fact.variants, results, run.request.spec)
    results += gates.not_applicable(fact.not_applicable) + gates.empty_features(version.trained.metrics)
    if not chosen:
        return [refusal(version, results, why_none_passed(results))]
    reason = why_worse(fact, version, champion, catalogue) if champion else why_useless(version, run.request.spec)
    if reason:
        return [refusal(version, results, reason)]
    measured = replace(version, variants=fact.variants, cpu_class=fact.cpu_class, elsewhere=())
    plan = specs.rollout(run.request.spec) if champion else None
    return candidates.begun(
        release(measured, chosen, results, run.request.spec, catalogue), plan, run.request.spec.digest, catalogue
    )


@_decide.register
def _(fact: PartitionsAdded, catalogue: Catalogue) -> list[Decision]:
    return [replace(catalogue.pipelines[fact.pipeline], partitions=fact.partitions)]


@_decide.register
def _(fact: Rollback, catalogue: Catalogue) -> list[Decision]:
    gone = candidates.taken_back(fact.model, catalogue)
    earlier = None if rollback.is_of_the_candidate(catalogue, fact) else rollback.target(catalogue, fact)
    if earlier is None or isinstance(earlier, str):
        return gone
    now = catalogue.pipelines.get(earlier.released.pipeline)
    # What is personal now stays untold, though the version is of before.
    withholds = earlier.released.withholds or (now is not None and specs.withholds(now.spec))
    epoch = catalogue.epoch(fact.model, CHAMPION) + 1
    records = now is not None and specs.records(now.spec)
    return [*gone, replace(earlier.released, epoch=epoch, reason=rollback.REASON, withholds=withholds, records=records)]


@_decide.register
def _(fact: RolloutLook, catalogue: Catalogue) -> list[Decision]:
    decided = candidates.look(fact, catalogue)
    return [] if isinstance(decided, str) else decided


@_decide.register
def _(fact: RolloutOrder, catalogue: Catalogue) -> list[Decision]:
    decided = candidates.order(fact, catalogue)
    return [] if isinstance(decided, str) else decided


@_decide.register
def _(fact: Canary, catalogue: Catalogue) -> list[Decision]:
    request = canary.wanted(catalogue, fact)
    return [] if isinstance(request, str) else [request]


@_decide.register
def _(fact: Recalibration, catalogue: Catalogue) -> list[Decision]:
    request = recalibration.wanted(catalogue, fact)
    return [] if isinstance(request, str) else [request]


@_decide.register
def _(fact: Retirement, catalogue: Catalogue) -> list[Decision]:
    gone = [version.trained for version in retention.let_go(catalogue, fact.moment)]
    return [VersionRetired(each.pipeline, each.model, each.version_id) for each in gone]


def _recalibrated(fact: ModelCompressed, version: Version, spec: PipelineSpec, catalogue: Catalogue) -> list[Decision]:
    """Return the release of a version in its new variants; nothing when another is served meanwhile."""
    champion = catalogue.champion(version.trained.model)
    if champion is None or champion.trained.version_id != version.trained.version_id:
        return []
    results = specs.judged(fact.variants, spec)
    chosen = may_answer(fact.variants, results, spec)
    results += gates.not_applicable(fact.not_applicable) + gates.empty_features(version.trained.metrics)
    if not chosen:
        return [refusal(version, results, f"recalibration: {why_none_passed(results)}")]
    measured = replace(version, variants=fact.variants, cpu_class=fact.cpu_class, elsewhere=())
    return [replace(release(measured, chosen, results, spec, catalogue), reason=recalibration.REASON)]


def _compression_of(trained: ModelTrained, catalogue: Catalogue) -> CompressionRequested:
    dataset = catalogue.datasets[trained.pipeline, trained.dataset_id]
    spec = working_spec(trained.pipeline, catalogue.specs[trained.pipeline, dataset.frozen.spec_digest], catalogue)
    champion = comparable_champion(trained, catalogue)
    champion_id = champion.trained.version_id if champion else ""
    return CompressionRequested(
        run_id=specs.compression_run_id(
            own_name(trained.pipeline, dataset.frozen.incarnation), trained.version_id, champion_id, spec
        ),
        pipeline=trained.pipeline,
        candidate=reference(trained, catalogue),
        champion=reference(champion.trained, catalogue) if champion else None,
        spec=spec,
    )


def _why_stale(trained: ModelTrained, catalogue: Catalogue) -> str:
    """Return why a version comes too late, empty when it does not: its pipeline's champion learned from newer data.

    So does one whose spec was taken back meanwhile, so that the champion is what is wanted again.
    """
    champion = catalogue.champion(trained.model)
    if champion is None or champion.trained.pipeline != trained.pipeline:
        return ""
    if not catalogue.is_older(trained, champion.trained):
        is_wanted = trained.run_id != champion.trained.run_id == wanted_run(trained.pipeline, catalogue)
        what = f"superseded: the champion, version {champion.ordinal}, is of the spec in force and the newest dataset"
        return what if is_wanted else ""
    return (
        f"superseded: it learned from dataset {trained.dataset_id}, and the champion, version {champion.ordinal}, from "
        f"newer data: {champion.trained.dataset_id}"
    )
