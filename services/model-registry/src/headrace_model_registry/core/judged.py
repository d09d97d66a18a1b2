"""Versions as they are remembered once they were measured, and their gates judged."""

from collections.abc import Sequence
from dataclasses import replace

from headrace_data.tasks import Measure, task_of

from headrace_model_registry.core.choice import on_frontier
from headrace_model_registry.core.facts import CompressionRequested, ModelCompressed, ModelTrained
from headrace_model_registry.core.facts.classes import ClassVariants, GateResult
from headrace_model_registry.core.records import ClassMeasurement, Version, VersionState


def judged(version: Version, state: VersionState, gates: tuple[GateResult, ...] = (), reason: str = "") -> Version:
    """Return a version in another state, with every gate, and which of its variants no other beats in all."""
    found = on_frontier(version.variants, gates, _quality(version.trained)) if gates else ()
    return replace(version, state=state, gates=gates, reason=reason, frontier=found)


def judged_elsewhere(version: Version, classes: Sequence[ClassVariants]) -> Version:
    """Return a version with the gates of further classes of processors, where a release has some."""
    gates = {each.cpu_class: each.gates for each in classes if each.gates}
    if not gates:
        return version
    quality = _quality(version.trained)
    told = tuple(
        replace(each, gates=own, frontier=on_frontier(each.variants, own, quality)) if own else each
        for each in version.elsewhere
        for own in [gates.get(each.cpu_class, ())]
    )
    return replace(version, elsewhere=told)


def measured(
    version: Version,
    event: ModelCompressed,
    request: object,
    made_by: CompressionRequested | None,
) -> Version:
    """Return a version with what a run measured; `made_by` is the run that its variants are of."""
    if not (isinstance(request, CompressionRequested) and request.cpu_class):
        evaluations = event.evaluations + event.joined
        return replace(
            version, variants=event.variants, evaluations=evaluations, cpu_class=event.cpu_class, elsewhere=()
        )
    if made_by is None or made_by.candidate.dataset != request.candidate.dataset:
        return version  # its variants are of other rows than those that are there by now
    others = tuple(each for each in version.elsewhere if each.cpu_class != event.cpu_class)
    return replace(version, elsewhere=(*others, ClassMeasurement(event.cpu_class, event.variants)))


def _quality(trained: ModelTrained) -> Measure:
    return task_of(trained.task, trained.metrics).measure(trained.measure)
