"""Whether a dataset is trained on, by what the version that is served scores on rows that it has never seen.

It is worse where even the end of both intervals that speaks for it leaves more lost than is allowed: see
`headrace_data.bounds`. A figure moved where that is no chance and matters: see
`headrace_data.drift`. So a stream that stays as it is trains nothing, however few rows its cuts have.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from headrace_data.bounds import least_loss
from headrace_data.spec import Triggers
from headrace_data.tasks import Measure

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    Bounded,
    DatasetFrozen,
    Drift,
    ModelEvaluated,
    PipelineSpec,
    TrainingDecided,
)
from headrace_model_registry.core.records import Version
from headrace_model_registry.core.verdict import task_learned

QUIET = "quiet"
"""The cause of a decision that nothing is trained."""
_DAY_S = 86_400


class Untested(NamedTuple):
    """Why a dataset is trained on without a look at what is served."""

    cause: str
    reason: str


class _Evidence(NamedTuple):
    """What a decision rests on."""

    measure: Measure
    before: Bounded | None
    now: Bounded | None
    drift: Drift | None
    age_s: int
    rows: int


def untested(frozen: DatasetFrozen, why: Untested, served: Version | None) -> TrainingDecided:
    """Return the decision to train on a dataset for which what is served says nothing."""
    return TrainingDecided(
        pipeline=frozen.pipeline,
        dataset_id=frozen.dataset_id,
        trained=True,
        reason=f"trained because {why.reason}",
        cause=why.cause,
        version_id=served.trained.version_id if served else "",
        ordinal=served.ordinal if served else 0,
        segment_id=frozen.segment.segment_id if frozen.segment else "",
    )


def decision(
    evaluated: ModelEvaluated, frozen: DatasetFrozen, served: Version, spec: PipelineSpec, catalogue: Catalogue
) -> TrainingDecided:
    """Return whether a dataset is trained on by what was scored on its segment. Needs a spec that has triggers."""
    triggers = specs.triggers(spec) or Triggers(worse=math.inf)
    evidence = _evidence(evaluated, frozen, served, spec, catalogue)
    held = list(_held(triggers, evidence))
    told = "; ".join(reason for _, reason in held) or _quiet(evidence)
    return TrainingDecided(
        pipeline=frozen.pipeline,
        dataset_id=frozen.dataset_id,
        trained=bool(held),
        reason=f"{'' if held else 'not '}trained because {told}",
        cause=held[0][0] if held else QUIET,
        version_id=served.trained.version_id,
        ordinal=served.ordinal,
        segment_id=evaluated.segment_id,
        run_id=evaluated.run_id,
        before=evidence.before,
        now=evidence.now,
        drift=evidence.drift,
        age_s=evidence.age_s,
        rows=evidence.rows,
    )


def _evidence(
    evaluated: ModelEvaluated, frozen: DatasetFrozen, served: Version, spec: PipelineSpec, catalogue: Catalogue
) -> _Evidence:
    measure = task_learned(served.trained).measure(specs.measure(spec))
    moved = [*evaluated.inputs, *([evaluated.answers] if evaluated.answers else [])]
    learned = catalogue.datasets[served.trained.pipeline, served.trained.dataset_id]
    newest = catalogue.datasets[frozen.pipeline, frozen.dataset_id]
    return _Evidence(
        measure,
        evaluated.before.of(measure.name),
        evaluated.now.of(measure.name),
        max(moved, key=lambda each: (each.is_no_chance, each.excess), default=None),
        max(0, int((newest.freeze_time - learned.freeze_time).total_seconds())),
        _rows_since(served, frozen, catalogue),
    )


def _rows_since(served: Version, frozen: DatasetFrozen, catalogue: Catalogue) -> int:
    """Return how many rows were cut since the dataset of a version."""
    rows = 0
    for (pipeline, dataset_id), dataset in reversed(catalogue.datasets.items()):
        if (pipeline, dataset_id) == (served.trained.pipeline, served.trained.dataset_id):
            break
        if pipeline == frozen.pipeline and dataset.frozen.segment is not None:
            rows += dataset.frozen.segment.rows
    return rows


def _held(triggers: Triggers, found: _Evidence) -> Iterator[tuple[str, str]]:
    """Yield each trigger that holds, with what to say of it."""
    if triggers.worse is not None and found.before is not None and found.now is not None:
        allowed = triggers.worse * abs(found.before.value)
        if least_loss(found.measure, found.before, found.now) > allowed:
            yield "worse", _lost(found.measure, found.before, found.now, allowed)
    moved = found.drift
    if triggers.drift is not None and moved is not None and moved.is_no_chance and moved.excess >= triggers.drift:
        yield "drift", f"{_moved(moved)}, {triggers.drift:g} or more beyond it"
    if triggers.age is not None and found.age_s >= triggers.age:
        yield "age", f"the dataset of the version served is {_days(found.age_s)} old, {_days(triggers.age)} or more"
    if triggers.rows is not None and found.rows >= triggers.rows:
        yield "rows", f"{found.rows} rows were cut since the dataset of the version served, {triggers.rows} or more"


def _quiet(found: _Evidence) -> str:
    parts = [f"{_quality(found)}: no more lost than chance and train.when allow"]
    if found.drift is not None:
        parts.append(_moved(found.drift))
    return "; ".join(parts)


def _lost(measure: Measure, before: Bounded, now: Bounded, allowed: float) -> str:
    went = "fell" if measure.better == "more" else "rose"
    least = measure.text(least_loss(measure, before, now))
    return (
        f"{now.name} {went} to {measure.text(now.value)} on the new rows from {measure.text(before.value)}: by {least} "
        f"at least, more than {measure.text(allowed)}"
    )


def _quality(found: _Evidence) -> str:
    if found.before is None or found.now is None:
        return f"{found.measure.name} could not be measured on the new rows"
    text = found.measure.text
    now, before = found.now, found.before
    return (
        f"{now.name} is {text(now.value)} on the new rows ({text(now.low)} to {text(now.high)}), and was "
        f"{text(before.value)} ({text(before.low)} to {text(before.high)})"
    )


def _moved(moved: Drift) -> str:
    what = moved.field or "the answers"
    return f"{what} moved by {moved.value:.2g} ({moved.measure}), where chance gives {moved.bound:.2g} at most"


def _days(seconds: float) -> str:
    return f"{seconds / _DAY_S:.1f} d" if seconds >= _DAY_S else f"{seconds / 3600:.1f} h"
