"""A released version measured on further classes of processors, each by a compressor of that class.

What is right and fast on one processor need not be on another, so replicas of a class that nobody measured serve fp32.
A pipeline names the classes that its replicas have. With each release, and when the spec says so later, there is one
run for each class that is missing: a compression whose command names the class. What passes its gates there is served
there by another release of the same version. Nothing waits for such a run, as there may be no compressor of its class.
"""

from dataclasses import replace
from typing import Final

from headrace_data.spec import own_name

from headrace_model_registry.core import choice, gates, specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    CHAMPION,
    CompressionRequested,
    Decision,
    ModelCompressed,
    ModelReleased,
    PipelineApplied,
    PipelineSpec,
)
from headrace_model_registry.core.facts.classes import ClassVariants
from headrace_model_registry.core.records import ClassMeasurement, RunState, Version
from headrace_model_registry.core.wishes import Input

_PREFIX: Final = "measure-"


def reason(cpu_class: str) -> str:
    """Return what a release says that followed from a measurement."""
    return f"measured on {cpu_class}"


def wanted(fact: Input, decisions: list[Decision], catalogue: Catalogue) -> list[Decision]:
    """Return the runs that are missing of what is served from now on, after a release or with a spec."""
    released = [each for each in decisions if isinstance(each, ModelReleased) and each.alias == CHAMPION]
    if isinstance(fact, PipelineApplied) and not released:
        served = [release.released for release in catalogue.aliases.values()]
        released = [each for each in served if (each.pipeline, each.alias) == (fact.pipeline, CHAMPION)]
    in_force = fact.spec if isinstance(fact, PipelineApplied) else None
    ending = fact.run_id if isinstance(fact, ModelCompressed) else ""
    return [request for each in released for request in _missing(each, in_force, ending, catalogue)]


def _missing(
    released: ModelReleased, spec: PipelineSpec | None, ending: str, catalogue: Catalogue
) -> list[CompressionRequested]:
    """Return the measurements that a release has not, but for those under way; `spec` is the one in force if not known.

    One that was made while another version was served is asked for again: whoever gets it finds its result.
    """
    pipeline = released.pipeline
    applied, made_by = catalogue.pipelines.get(pipeline), catalogue.made_by(pipeline, released.version_id, ending)
    if applied is None or made_by is None or not released.classes:
        return []
    spec = spec or applied.spec
    if not (specs.same_rows(spec, made_by.spec) and specs.same_question(spec, made_by.spec)):
        return []
    own, dataset_id = own_name(pipeline, applied.incarnation), made_by.candidate.dataset.dataset_id
    known = {each.cpu_class for each in released.classes}
    requests = [
        replace(made_by, run_id=_PREFIX + digest, champion=None, spec=spec, cpu_class=cpu_class)
        for cpu_class in specs.classes(spec)
        for digest in [specs.measurement_digest(own, released.version_id, dataset_id, cpu_class, spec)]
        if cpu_class not in known
    ]
    runs = [(request, catalogue.runs.get(request.run_id)) for request in requests]
    return [request for request, run in runs if run is None or run.state is not RunState.RUNNING]


def released(fact: ModelCompressed, request: CompressionRequested, catalogue: Catalogue) -> list[Decision]:
    """Return the release of a version on a class that it was measured on; nothing when it is served no more.

    Nor when its variants were made anew meanwhile: a class serves what the others do.
    """
    version = catalogue.versions[fact.pipeline, fact.version_id]
    champion = catalogue.aliases.get((version.trained.model, CHAMPION))
    made_by = catalogue.made_by(fact.pipeline, fact.version_id)
    if champion is None or champion.released.version_id != fact.version_id or made_by is None:
        return []
    if made_by.candidate.dataset != request.candidate.dataset:
        return []
    before = champion.released
    others = tuple(each for each in before.classes if each.cpu_class != fact.cpu_class)
    own = _on(fact.cpu_class, fact, request.spec)
    epoch = catalogue.epoch(before.model, CHAMPION) + 1
    return [replace(before, epoch=epoch, classes=(*others, own), reason=reason(fact.cpu_class))]


def _on(cpu_class: str, measured: ModelCompressed | ClassMeasurement, spec: PipelineSpec) -> ClassVariants:
    """Return what a class serves of what was measured on it, with every gate: no variant where none passed."""
    results = specs.judged(measured.variants, spec)
    chosen = choice.ordered(measured.variants, results, specs.objective(spec), specs.quality(spec))
    if isinstance(measured, ModelCompressed):
        results += gates.not_applicable(measured.not_applicable)
    return ClassVariants(cpu_class, tuple(map(choice.served, chosen)), results)


def elsewhere(version: Version, spec: PipelineSpec) -> tuple[ClassVariants, ...]:
    """Return what is served, by a spec, on each class that a version was measured on beside the first."""
    return tuple(_on(each.cpu_class, each, spec) for each in version.elsewhere)
