"""What follows from a fact: pure functions of what is known and what was just learned.

frozen dataset ──► training requested ──► trained ──► compression requested ──► compressed ──► released or refused

A changed spec is trained by when the newest dataset fits it. Where spec and newest dataset are what they were before,
the version that came of them then is released again. A rollback makes an earlier release again.

A pipeline has one candidate under way, from the training run to the verdict. What is to be trained meanwhile is held:
the newest only, and what was held before is superseded. A version that learned from older data than the champion is
refused.

A fact is first asked whether it may be recorded (`objections`), then what follows from it (`decide`).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from math import isfinite, nan

from headrace_data.spec import own_name
from headrace_data.tasks import Task, task_of

from headrace_model_registry.core import choice, gates, ledger, measurement, recalibration, retention, rollback, specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.classes import GateResult
from headrace_model_registry.core.comparison import compare
from headrace_model_registry.core.facts import (
    CHAMPION,
    CompressionRequested,
    DatasetFrozen,
    DatasetReference,
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
    TrainingHeld,
    TrainingRequested,
    TrainingSuperseded,
    Variant,
    VersionRetired,
)
from headrace_model_registry.core.objections import objection
from headrace_model_registry.core.origins import begun, reference
from headrace_model_registry.core.records import RunState, Version, VersionState
from headrace_model_registry.core.wishes import Input, PartitionsAdded, Recalibration, Retirement, Rollback
from headrace_model_registry.core.withheld import why_withheld

AGAIN = "spec and dataset are what they were"
"""What a release says of a version that was released before and came back with its spec."""


@singledispatch
def _decide(fact: Input, catalogue: Catalogue) -> list[Decision]:
    return []


def decide(fact: Input, catalogue: Catalogue) -> list[Decision]:
    """Return what follows from a fact, given everything known before it. Nothing follows from what is no news."""
    if objection(fact, catalogue):
        return []
    decisions = _decide(fact, catalogue)
    if isinstance(fact, ModelTrained | ModelCompressed | RunFailed):
        decisions += _held(fact, decisions, catalogue)
    return decisions + measurement.wanted(fact, decisions, catalogue)


@_decide.register
def _(fact: PipelineApplied, catalogue: Catalogue) -> list[Decision]:
    # The rows are spent: without new ones no dataset would follow, and a mended spec would never be tried.
    newest = catalogue.newest_dataset(fact.pipeline)
    if newest is None:
        return []
    prepared_with = catalogue.specs[fact.pipeline, newest.frozen.spec_digest]
    return _training_on(newest.frozen, fact.spec, catalogue) if specs.same_preparation(fact.spec, prepared_with) else []


@_decide.register
def _(fact: PipelineDeleted, catalogue: Catalogue) -> list[Decision]:
    in_force = [release.released for release in catalogue.aliases.values()]
    return [
        ModelWithdrawn(released.model, released.alias, released.epoch, released.pipeline)
        for released in in_force
        if released.pipeline == fact.pipeline
    ]


@_decide.register
def _(fact: DatasetFrozen, catalogue: Catalogue) -> list[Decision]:
    spec = _working_spec(fact.pipeline, catalogue.specs[fact.pipeline, fact.spec_digest], catalogue)
    return _training_on(fact, spec, catalogue)


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
        return [_refused(version, (), reason)]
    champion = _comparable_champion(version.trained, catalogue)
    if fact.champion_id != (champion.trained.version_id if champion else ""):
        # Somebody else was released while this one was measured: measure again, beside the one served now.
        request = _compression_of(version.trained, catalogue)
        if request.run_id not in catalogue.runs:
            return [request]
        return [_refused(version, (), "the champion changed again and again while the version was measured")]
    results = specs.judged(fact.variants, run.request.spec)
    chosen = _chosen(fact.variants, results, run.request.spec)
    results += gates.not_applicable(fact.not_applicable) + gates.empty_features(version.trained.metrics)
    if not chosen:
        return [_refused(version, results, _why_none_passed(results))]
    reason = _why_worse(fact, version, champion, catalogue) if champion else _why_useless(version, run.request.spec)
    if reason:
        return [_refused(version, results, reason)]
    measured = replace(version, variants=fact.variants, cpu_class=fact.cpu_class, elsewhere=())
    return [_released(measured, chosen, results, run.request.spec, catalogue)]


@_decide.register
def _(fact: PartitionsAdded, catalogue: Catalogue) -> list[Decision]:
    return [replace(catalogue.pipelines[fact.pipeline], partitions=fact.partitions)]


@_decide.register
def _(fact: Rollback, catalogue: Catalogue) -> list[Decision]:
    earlier = rollback.target(catalogue, fact)
    if isinstance(earlier, str):
        return []
    now = catalogue.pipelines.get(earlier.released.pipeline)
    # What is personal now stays untold, though the version is of before.
    withholds = earlier.released.withholds or (now is not None and specs.withholds(now.spec))
    epoch = catalogue.epoch(fact.model, CHAMPION) + 1
    return [replace(earlier.released, epoch=epoch, reason=rollback.REASON, withholds=withholds)]


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
    chosen = _chosen(fact.variants, results, spec)
    results += gates.not_applicable(fact.not_applicable) + gates.empty_features(version.trained.metrics)
    if not chosen:
        return [_refused(version, results, f"recalibration: {_why_none_passed(results)}")]
    measured = replace(version, variants=fact.variants, cpu_class=fact.cpu_class, elsewhere=())
    return [replace(_released(measured, chosen, results, spec, catalogue), reason=recalibration.REASON)]


def _training_on(frozen: DatasetFrozen, spec: PipelineSpec, catalogue: Catalogue) -> list[Decision]:
    pipeline = frozen.pipeline
    if why_withheld(frozen, spec):
        return []
    run_id = specs.training_run_id(frozen, spec)
    known = catalogue.runs.get(run_id)
    if known is not None and known.state is not RunState.SUPERSEDED and not known.never_began:
        # Only where it was not wanted before: a rollback stays one, however often the same is asked for.
        return _back_to(run_id, spec, catalogue) if run_id != _wanted_run(pipeline, catalogue) else []
    dataset = DatasetReference(frozen.dataset_id, frozen.manifest)
    if not catalogue.is_busy(pipeline):
        return [_begun(TrainingRequested(run_id, pipeline, dataset, spec), catalogue)]
    held = TrainingHeld(run_id, pipeline, dataset, spec)
    waiting = catalogue.waiting(pipeline)
    if waiting is None:
        return [held]
    reason = f"run {run_id} on dataset {frozen.dataset_id} takes its place"
    return [TrainingSuperseded(waiting.request.run_id, pipeline, reason), held]


def _wanted_run(pipeline: str, catalogue: Catalogue) -> str:
    """Return the id of the training run that is wanted: on the newest dataset; empty before the first."""
    newest = catalogue.newest_dataset(pipeline)
    if newest is None:
        return ""
    prepared_with = catalogue.specs[pipeline, newest.frozen.spec_digest]
    return specs.training_run_id(newest.frozen, _working_spec(pipeline, prepared_with, catalogue))


def _back_to(run_id: str, spec: PipelineSpec, catalogue: Catalogue) -> list[Decision]:
    """Return what follows where a run is wanted again that was asked for before another one."""
    pipeline = catalogue.runs[run_id].request.pipeline
    decisions: list[Decision] = []
    waiting = catalogue.waiting(pipeline)
    if waiting is not None and waiting.request.run_id != run_id:
        reason = f"spec and dataset are those of run {run_id} again"
        decisions.append(TrainingSuperseded(waiting.request.run_id, pipeline, reason))
    version = next((each for each in catalogue.versions.values() if each.trained.run_id == run_id), None)
    if version is None or version.state is not VersionState.REPLACED:
        return decisions
    champion = catalogue.champion(version.trained.model)
    if champion is None or champion.trained.pipeline != pipeline:
        return decisions
    results = specs.judged(version.variants, spec)
    chosen = _chosen(version.variants, results, spec)
    results += gates.empty_features(version.trained.metrics)
    if not chosen:
        return [*decisions, _refused(version, results, _why_none_passed(results))]
    return [*decisions, replace(_released(version, chosen, results, spec, catalogue), reason=AGAIN)]


def _held(
    fact: ModelTrained | ModelCompressed | RunFailed, decisions: list[Decision], catalogue: Catalogue
) -> list[Decision]:
    """Return the training run that begins now because the candidate under way has come to its end."""
    if any(isinstance(decision, CompressionRequested) for decision in decisions):
        return []
    waiting = catalogue.waiting(fact.pipeline)
    if waiting is None or catalogue.is_busy(fact.pipeline, ended=fact.run_id):
        return []
    return [_begun(request, catalogue, decisions)] if isinstance(request := waiting.request, TrainingRequested) else []


def _begun(request: TrainingRequested, catalogue: Catalogue, decisions: Sequence[Decision] = ()) -> Decision:
    """Return the request as it begins, or its refusal where the ledger of its topic has too little left."""
    return ledger.refusal(request, catalogue) or begun(request, catalogue, decisions)


def _working_spec(pipeline: str, prepared_with: PipelineSpec, catalogue: Catalogue) -> PipelineSpec:
    """Return the spec in force, or the one that the dataset was prepared with when the schema has changed since."""
    current = catalogue.pipelines[pipeline].spec
    return current if specs.same_rows(current, prepared_with) else prepared_with


def _compression_of(trained: ModelTrained, catalogue: Catalogue) -> CompressionRequested:
    dataset = catalogue.datasets[trained.pipeline, trained.dataset_id]
    spec = _working_spec(trained.pipeline, catalogue.specs[trained.pipeline, dataset.frozen.spec_digest], catalogue)
    champion = _comparable_champion(trained, catalogue)
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


def _comparable_champion(trained: ModelTrained, catalogue: Catalogue) -> Version | None:
    """Return the version that the candidate must not be worse than.

    None when nothing is served yet, and when what is served was made for rows of another schema or for another task:
    the two cannot answer the same question, and the pipeline's owner changed it knowing that. So it is after a changed
    split: the rows that the one is tested on are rows that the other learned from.
    """
    champion = catalogue.champion(trained.model)
    if champion is None:
        return None
    own = catalogue.spec_of(trained.pipeline, trained.dataset_id)
    served = catalogue.spec_of(champion.trained.pipeline, champion.trained.dataset_id)
    if not (own and served and specs.same_rows(own, served) and specs.same_split(own, served)):
        return None
    asked = [catalogue.runs.get(each.run_id) for each in (trained, champion.trained)]
    by = [run.request.spec for run in asked if run is not None]
    if len(by) == 2 and not specs.same_question(*by):
        return None
    return champion if _task(trained) is _task(champion.trained) else None


def _task(trained: ModelTrained) -> Task:
    # The dataset's spec does not tell: another may have been trained by on the same rows.
    return task_of(trained.task, trained.metrics)


def _why_stale(trained: ModelTrained, catalogue: Catalogue) -> str:
    """Return why a version comes too late, empty when it does not: its pipeline's champion learned from newer data.

    So does one whose spec was taken back meanwhile, so that the champion is what is wanted again.
    """
    champion = catalogue.champion(trained.model)
    if champion is None or champion.trained.pipeline != trained.pipeline:
        return ""
    if not catalogue.is_older(trained, champion.trained):
        is_wanted = trained.run_id != champion.trained.run_id == _wanted_run(trained.pipeline, catalogue)
        what = f"superseded: the champion, version {champion.ordinal}, is of the spec in force and the newest dataset"
        return what if is_wanted else ""
    return (
        f"superseded: it learned from dataset {trained.dataset_id}, and the champion, version {champion.ordinal}, from "
        f"newer data: {champion.trained.dataset_id}"
    )


def _why_none_passed(results: tuple[GateResult, ...]) -> str:
    failed = [
        r.reason or f"{r.variant} {r.gate} {r.measured:.4g}, limit {r.limit:.4g}" for r in results if not r.passed
    ]
    return "no variant passed its gates: " + ("; ".join(failed) if failed else "nothing was measured")


def _why_worse(fact: ModelCompressed, version: Version, champion: Version, catalogue: Catalogue) -> str:
    """Return why the candidate must not replace the champion, empty when it may."""
    ids = (version.trained.dataset_id, champion.trained.dataset_id)
    spec = catalogue.runs[fact.run_id].request.spec
    measure = _task(version.trained).measure(specs.measure(spec))
    compared = compare(fact.evaluations, fact.joined, fact.version_id, champion.trained.version_id, ids, measure)
    if isinstance(compared, str):
        return f"cannot be compared with the champion, version {champion.ordinal}: {compared}"
    outrun = compared.tied and catalogue.is_older(version.trained, champion.trained)
    if not (compared.worse or outrun):
        return ""
    found = "as good as the champion, which learned from newer data," if outrun else "worse than the champion"
    rows = ", ".join(f"{dataset_id} ({count} rows)" for dataset_id, count in compared.rows)
    return (
        f"{found} on the same rows: {compared.candidate}, version {champion.ordinal} "
        f"{compared.champion}; test splits of {rows}"
    )


def _why_useless(version: Version, spec: PipelineSpec) -> str:
    """Return why a version that has no champion to be compared with must not be served, empty when it may."""
    if not specs.wants_baseline(spec):
        return ""
    trained = version.trained
    task = _task(trained)
    measure = task.measure(specs.measure(spec))
    known = measure is task.headline and not trained.task  # of before it was told what is answered
    if not known and not isfinite(trained.metrics.get(measure.name, nan)):
        return (
            f"{measure.name}, by which versions are judged, was not measured: the test split has no "
            "row that it needs, such as one of the class that is looked for; more rows or a larger split.test may help"
        )
    if not (told := task.why_useless(trained.metrics, measure, balanced=specs.balanced(spec))):
        return ""
    return (
        f"worse than an answer that looks at no feature: {told}, both on the test split. More rows, other features "
        "or longer training may help; compress.gates.baseline: ignored releases it all the same"
    )


def _chosen(variants: Sequence[Variant], results: tuple[GateResult, ...], spec: PipelineSpec) -> tuple[Variant, ...]:
    """Return the variants that may answer, the one that is served first."""
    return choice.ordered(specs.servable(variants, spec), results, specs.objective(spec), specs.quality(spec))


def _refused(version: Version, results: tuple[GateResult, ...], reason: str) -> ModelRefused:
    trained = version.trained
    return ModelRefused(trained.model, trained.version_id, trained.pipeline, reason, results)


def _released(
    version: Version,
    chosen: Sequence[Variant],
    results: tuple[GateResult, ...],
    spec: PipelineSpec,
    catalogue: Catalogue,
) -> ModelReleased:
    trained, best = version.trained, chosen[0]
    classes = choice.by_class(version.cpu_class, chosen, measurement.elsewhere(version, spec))
    return ModelReleased(
        model=trained.model,
        alias=CHAMPION,
        epoch=catalogue.epoch(trained.model, CHAMPION) + 1,
        version_id=trained.version_id,
        ordinal=version.ordinal,
        variant=best.name,
        graph=best.graph,
        pipeline=trained.pipeline,
        dataset_id=trained.dataset_id,
        run_id=trained.run_id,
        gates=results,
        cache=specs.cache_policy(spec),
        cache_ttl_s=specs.cache_ttl_s(spec),
        classes=classes,
        unmeasured=choice.on_unmeasured(version.variants, results) if classes else None,
        degrade=specs.degrades(spec),
        upstream=specs.upstream(spec),
        withholds=specs.withholds(spec),
    )
