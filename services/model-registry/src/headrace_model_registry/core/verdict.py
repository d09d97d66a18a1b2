"""Whether a version may be served: what speaks against it, what of it answers, and the release or refusal."""

from collections.abc import Sequence
from math import isfinite, nan

from headrace_data.tasks import Task, task_of

from headrace_model_registry.core import choice, measurement, specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.comparison import compare
from headrace_model_registry.core.facts import (
    CHAMPION,
    ModelCompressed,
    ModelRefused,
    ModelReleased,
    ModelTrained,
    PipelineSpec,
    Variant,
)
from headrace_model_registry.core.facts.classes import GateResult
from headrace_model_registry.core.records import Version


def task_learned(trained: ModelTrained) -> Task:
    """Return the task that a version learned."""
    # The dataset's spec does not tell: another may have been trained by on the same rows.
    return task_of(trained.task, trained.metrics)


def comparable_champion(trained: ModelTrained, catalogue: Catalogue) -> Version | None:
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
    return champion if task_learned(trained) is task_learned(champion.trained) else None


def why_none_passed(results: tuple[GateResult, ...]) -> str:
    """Return why no variant may answer, for a person."""
    failed = [
        r.reason or f"{r.variant} {r.gate} {r.measured:.4g}, limit {r.limit:.4g}" for r in results if not r.passed
    ]
    return "no variant passed its gates: " + ("; ".join(failed) if failed else "nothing was measured")


def why_worse(fact: ModelCompressed, version: Version, champion: Version, catalogue: Catalogue) -> str:
    """Return why the candidate must not replace the champion, empty when it may."""
    ids = (version.trained.dataset_id, champion.trained.dataset_id)
    spec = catalogue.runs[fact.run_id].request.spec
    measure = task_learned(version.trained).measure(specs.measure(spec))
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


def why_useless(version: Version, spec: PipelineSpec) -> str:
    """Return why a version that has no champion to be compared with must not be served, empty when it may."""
    if not specs.wants_baseline(spec):
        return ""
    trained = version.trained
    task = task_learned(trained)
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
        "or longer training may help; compress.gates.baseline: ignored releases such versions from the next one on"
    )


def may_answer(variants: Sequence[Variant], results: tuple[GateResult, ...], spec: PipelineSpec) -> tuple[Variant, ...]:
    """Return the variants that may answer, the one that is served first."""
    return choice.ordered(specs.servable(variants, spec), results, specs.objective(spec), specs.quality(spec))


def refusal(version: Version, results: tuple[GateResult, ...], reason: str) -> ModelRefused:
    """Return the refusal of a version."""
    trained = version.trained
    return ModelRefused(trained.model, trained.version_id, trained.pipeline, reason, results)


def release(
    version: Version,
    chosen: Sequence[Variant],
    results: tuple[GateResult, ...],
    spec: PipelineSpec,
    catalogue: Catalogue,
) -> ModelReleased:
    """Return the release of a version: `chosen` are the variants that answer, the first one before the others."""
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
        records=specs.records(spec),
    )
