"""Versions as they are remembered once their gates were judged."""

from collections.abc import Sequence
from dataclasses import replace

from headrace_data.tasks import Measure, task_of

from headrace_model_registry.core.choice import on_frontier
from headrace_model_registry.core.facts import ModelTrained
from headrace_model_registry.core.facts.classes import ClassVariants, GateResult
from headrace_model_registry.core.records import Version, VersionState


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


def _quality(trained: ModelTrained) -> Measure:
    return task_of(trained.task, trained.metrics).measure(trained.measure)
