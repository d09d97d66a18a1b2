"""What is trained next: on which dataset, by which spec, and whether now, later or not again."""

from collections.abc import Sequence
from dataclasses import replace

from headrace_model_registry.core import candidates, gates, ledger, specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    CompressionRequested,
    DatasetFrozen,
    DatasetReference,
    Decision,
    ModelCompressed,
    ModelTrained,
    PipelineSpec,
    RolloutAdvanced,
    RolloutEnded,
    RunFailed,
    TrainingHeld,
    TrainingRequested,
    TrainingSuperseded,
)
from headrace_model_registry.core.origins import begun
from headrace_model_registry.core.records import RunState, VersionState
from headrace_model_registry.core.verdict import (
    may_answer,
    refusal,
    release,
    why_none_passed,
)
from headrace_model_registry.core.withheld import why_withheld

AGAIN = "spec and dataset are what they were"
"""What a release says of a version that was released before and came back with its spec."""


def training_on(frozen: DatasetFrozen, spec: PipelineSpec, catalogue: Catalogue) -> list[Decision]:
    """Return what follows where a dataset is to be learned from by a spec."""
    pipeline = frozen.pipeline
    if why_withheld(frozen, spec):
        return []
    run_id = specs.training_run_id(frozen, spec)
    known = catalogue.runs.get(run_id)
    if known is not None and known.state is not RunState.SUPERSEDED and not known.never_began:
        # Only where it was not wanted before: a rollback stays one, however often the same is asked for.
        return _back_to(run_id, spec, catalogue) if run_id != wanted_run(pipeline, catalogue) else []
    dataset = DatasetReference(frozen.dataset_id, frozen.manifest)
    if not catalogue.is_busy(pipeline):
        return [_begun(TrainingRequested(run_id, pipeline, dataset, spec), catalogue)]
    held = TrainingHeld(run_id, pipeline, dataset, spec)
    waiting = catalogue.waiting(pipeline)
    if waiting is None:
        return [held]
    reason = f"run {run_id} on dataset {frozen.dataset_id} takes its place"
    return [TrainingSuperseded(waiting.request.run_id, pipeline, reason), held]


def wanted_run(pipeline: str, catalogue: Catalogue) -> str:
    """Return the id of the training run that is wanted: on the newest dataset; empty before the first."""
    newest = catalogue.newest_dataset(pipeline)
    if newest is None:
        return ""
    prepared_with = catalogue.specs[pipeline, newest.frozen.spec_digest]
    return specs.training_run_id(newest.frozen, working_spec(pipeline, prepared_with, catalogue))


def _back_to(run_id: str, spec: PipelineSpec, catalogue: Catalogue) -> list[Decision]:
    """Return what follows where a run is wanted again that was asked for before another one."""
    pipeline = catalogue.runs[run_id].request.pipeline
    decisions: list[Decision] = []
    waiting = catalogue.waiting(pipeline)
    if waiting is not None and waiting.request.run_id != run_id:
        reason = f"spec and dataset are those of run {run_id} again"
        decisions.append(TrainingSuperseded(waiting.request.run_id, pipeline, reason))
    version = next((each for each in catalogue.versions.values() if each.trained.run_id == run_id), None)
    if version is not None and version.state is VersionState.RELEASED:
        return [*decisions, *candidates.unwanted(version, catalogue)]
    if version is None or version.state is not VersionState.REPLACED:
        return decisions
    champion = catalogue.champion(version.trained.model)
    if champion is None or champion.trained.pipeline != pipeline:
        return decisions
    results = specs.judged(version.variants, spec)
    chosen = may_answer(version.variants, results, spec)
    results += gates.empty_features(version.trained.metrics)
    if not chosen:
        return [*decisions, refusal(version, results, why_none_passed(results))]
    again = replace(release(version, chosen, results, spec, catalogue), reason=AGAIN)
    return [*decisions, *candidates.overtaken(again, catalogue), again]


def after_the_one_under_way(
    fact: ModelTrained | ModelCompressed | RunFailed, decisions: list[Decision], catalogue: Catalogue
) -> list[Decision]:
    """Return the training run that begins now because the candidate under way has come to its end."""
    if any(isinstance(decision, CompressionRequested | RolloutAdvanced) for decision in decisions):
        return []  # still under way
    waiting = catalogue.waiting(fact.pipeline)
    if waiting is None or catalogue.is_busy(fact.pipeline, ended=fact.run_id):
        return []
    return [_begun(request, catalogue, decisions)] if isinstance(request := waiting.request, TrainingRequested) else []


def after_the_rollout(decisions: list[Decision], catalogue: Catalogue, but: str = "") -> list[Decision]:
    """Return the training runs that begin now because a candidate is champion, or has gone; of `but` there is none."""
    begun: list[Decision] = []
    gave_way = {each.run_id for each in decisions if isinstance(each, TrainingSuperseded)}
    all_ended = [each for each in decisions if isinstance(each, RolloutEnded) and each.pipeline != but]
    for ended in all_ended:
        waiting = catalogue.waiting(ended.pipeline)
        request = waiting.request if waiting and waiting.request.run_id not in gave_way else None
        if isinstance(request, TrainingRequested) and not catalogue.is_busy(ended.pipeline, ended_rollout=ended.model):
            begun.append(_begun(request, catalogue, decisions))
    return begun


def _begun(request: TrainingRequested, catalogue: Catalogue, decisions: Sequence[Decision] = ()) -> Decision:
    """Return the request as it begins, or its refusal where the ledger of its topic has too little left."""
    return ledger.refusal(request, catalogue) or begun(request, catalogue, decisions)


def working_spec(pipeline: str, prepared_with: PipelineSpec, catalogue: Catalogue) -> PipelineSpec:
    """Return the spec in force, or the one that the dataset was prepared with when the schema has changed since."""
    current = catalogue.pipelines[pipeline].spec
    return current if specs.same_rows(current, prepared_with) else prepared_with
