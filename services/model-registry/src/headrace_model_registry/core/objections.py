"""Which facts are passed over, and why: asked before anything follows from a fact."""

from dataclasses import dataclass
from functools import singledispatch

from headrace_model_registry.core import canary, candidates, recalibration, retention, rollback
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    CanaryJudged,
    CompressionRequested,
    DatasetFailed,
    DatasetFrozen,
    DatasetRequested,
    KeyForgotten,
    ModelCompressed,
    ModelEvaluated,
    ModelTrained,
    PipelineApplied,
    PipelineDeleted,
    RunFailed,
    RunKind,
)
from headrace_model_registry.core.records import RunState
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


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a fact is passed over. `repeated` when it is known already, which is no fault of anybody."""

    reason: str
    repeated: bool = False


@singledispatch
def objection(fact: Input, catalogue: Catalogue) -> Objection | None:
    """Return why a fact must not be recorded, None when it is news."""
    raise TypeError(f"no policy for a {type(fact).__name__}")


@objection.register
def _(fact: PipelineApplied, catalogue: Catalogue) -> Objection | None:
    if catalogue.pipelines.get(fact.pipeline) == fact:
        return Objection(f"pipeline {fact.pipeline} has this spec already", repeated=True)
    if fact.incarnation != catalogue.incarnation(fact.pipeline):
        return Objection(f"pipeline {fact.pipeline} was deleted meanwhile: apply it again")
    return None


@objection.register
def _(fact: PipelineDeleted, catalogue: Catalogue) -> Objection | None:
    return _not_of(fact.pipeline, fact.incarnation, catalogue)


@objection.register
def _(fact: DatasetRequested, catalogue: Catalogue) -> Objection | None:
    if fact.request_id in catalogue.ended_requests:
        return Objection(f"request {fact.request_id} was answered", repeated=True)
    return _not_of(fact.pipeline, fact.incarnation, catalogue)


@objection.register
def _(fact: DatasetFrozen, catalogue: Catalogue) -> Objection | None:
    newest = catalogue.newest_dataset(fact.pipeline)
    if newest is not None and newest.frozen == fact:
        return Objection(f"dataset {fact.dataset_id} is recorded", repeated=True)
    if unknown := _not_of(fact.pipeline, fact.incarnation, catalogue):
        return unknown
    if (fact.pipeline, fact.spec_digest) not in catalogue.specs:
        return Objection(
            f"dataset {fact.dataset_id} of pipeline {fact.pipeline} was prepared with spec {fact.spec_digest}, "
            "which was never applied"
        )
    return None


@objection.register
def _(fact: DatasetFailed, catalogue: Catalogue) -> Objection | None:
    if fact.request_id in catalogue.ended_requests or catalogue.failures.get(fact.pipeline) == fact:
        return Objection(f"the failed freeze of pipeline {fact.pipeline} is recorded", repeated=True)
    return _not_of(fact.pipeline, fact.incarnation, catalogue)


@objection.register
def _(fact: KeyForgotten, catalogue: Catalogue) -> Objection | None:
    if fact.request_id in catalogue.ended_requests:
        return Objection(f"request {fact.request_id} was answered", repeated=True)
    return _not_of(fact.pipeline, fact.incarnation, catalogue)


@objection.register
def _(fact: ModelTrained, catalogue: Catalogue) -> Objection | None:
    return _not_awaited(fact.run_id, fact.pipeline, RunKind.TRAINING, fact.dataset_id, catalogue)


@objection.register
def _(fact: ModelCompressed, catalogue: Catalogue) -> Objection | None:
    if found := _not_awaited(fact.run_id, fact.pipeline, RunKind.COMPRESSION, fact.version_id, catalogue):
        return found
    if found := _of_another_kind(fact.run_id, is_canary=False, catalogue=catalogue):
        return found
    request = catalogue.runs[fact.run_id].request
    named = request.cpu_class if isinstance(request, CompressionRequested) else ""
    if named and fact.cpu_class != named:
        return Objection(f"run {fact.run_id} was asked for on {named}, and was measured on {fact.cpu_class}")
    return None


@objection.register
def _(fact: ModelEvaluated, catalogue: Catalogue) -> Objection | None:
    return _not_awaited(fact.run_id, fact.pipeline, RunKind.EVALUATION, fact.version_id, catalogue)


@objection.register
def _(fact: RunFailed, catalogue: Catalogue) -> Objection | None:
    return _not_awaited(fact.run_id, fact.pipeline, fact.kind, None, catalogue)


@objection.register
def _(fact: Rollback, catalogue: Catalogue) -> Objection | None:
    if rollback.is_of_the_candidate(catalogue, fact):
        return None
    found = rollback.target(catalogue, fact)
    return Objection(found) if isinstance(found, str) else None


@objection.register
def _(fact: RolloutLook, catalogue: Catalogue) -> Objection | None:
    found = candidates.look(fact, catalogue)
    return Objection(found, repeated=True) if isinstance(found, str) else None


@objection.register
def _(fact: RolloutOrder, catalogue: Catalogue) -> Objection | None:
    found = candidates.order(fact, catalogue)
    return Objection(found) if isinstance(found, str) else None


@objection.register
def _(fact: CanaryJudged, catalogue: Catalogue) -> Objection | None:
    if found := _not_awaited(fact.run_id, fact.pipeline, RunKind.COMPRESSION, fact.version_id, catalogue):
        return found
    return _of_another_kind(fact.run_id, is_canary=True, catalogue=catalogue)


@objection.register
def _(fact: Canary, catalogue: Catalogue) -> Objection | None:
    found = canary.wanted(catalogue, fact)
    if isinstance(found, str):
        return Objection(found)
    return Objection(f"run {found.run_id} does it", repeated=True) if canary.is_known(catalogue, found) else None


@objection.register
def _(fact: Recalibration, catalogue: Catalogue) -> Objection | None:
    found = recalibration.wanted(catalogue, fact)
    return Objection(found) if isinstance(found, str) else None


@objection.register
def _(fact: Retirement, catalogue: Catalogue) -> Objection | None:
    return None if retention.let_go(catalogue, fact.moment) else Objection("every version is retained", repeated=True)


@objection.register
def _(fact: PartitionsAdded, catalogue: Catalogue) -> Objection | None:
    known = catalogue.pipelines.get(fact.pipeline)
    if known is not None and known.partitions >= fact.partitions:
        return Objection(f"pipeline {fact.pipeline} has {known.partitions} partitions already", repeated=True)
    return _not_of(fact.pipeline, catalogue.incarnation(fact.pipeline), catalogue)


def _not_of(pipeline: str, incarnation: int, catalogue: Catalogue) -> Objection | None:
    """Return why a fact is of no pipeline that is there: it was never applied, or deleted since."""
    if (pipeline, incarnation) in catalogue.departed:
        return Objection(f"pipeline {pipeline} was deleted")
    applied = catalogue.pipelines.get(pipeline)
    if applied is None or applied.incarnation != incarnation:
        return Objection(f"pipeline {pipeline} was never applied")
    return None


def _not_awaited(
    run_id: str, pipeline: str, kind: RunKind, subject: str | None, catalogue: Catalogue
) -> Objection | None:
    """Return why the end of a run is no news: nobody asked for it, something else was asked for, or it has ended."""
    run = catalogue.runs.get(run_id)
    if run is None and any(run_id in gone.runs for gone in catalogue.departed.values()):
        return Objection(f"the pipeline {pipeline} of run {run_id} was deleted", repeated=True)
    if run is None:
        return Objection(f"run {run_id} of pipeline {pipeline} was never asked for")
    if run.state is not RunState.RUNNING:
        return Objection(f"run {run_id} has ended", repeated=True)
    asked = (run.request.pipeline, run.kind, run.subject)
    came = (pipeline, kind, run.subject if subject is None else subject)
    if asked != came:
        return Objection(f"run {run_id} was asked for as {_describe(*asked)}, and what came says {_describe(*came)}")
    return None


def _of_another_kind(run_id: str, *, is_canary: bool, catalogue: Catalogue) -> Objection | None:
    """Return why the end of a compression is none of a canary, or the other way round."""
    request = catalogue.runs[run_id].request
    asked = isinstance(request, CompressionRequested) and request.canary is not None
    if asked is is_canary:
        return None
    return Objection(f"run {run_id} was asked for {'to hold a version against another' if asked else 'variants'}")


def _describe(pipeline: str, kind: RunKind, subject: str) -> str:
    return f"{kind.name.lower()} of {subject} in pipeline {pipeline}"
