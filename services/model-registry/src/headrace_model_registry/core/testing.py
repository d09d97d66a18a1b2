"""Test, then train: what is served is scored on the rows of a cut before anything learns from them.

By `train.when: always` each dataset is trained on, and the evaluation runs beside that. Otherwise the pipeline waits
for it, and a decision follows: trained on or not, why, and by which figures. Where there is nothing to compare with, as
of the first dataset, and where an evaluation fails, it is trained on, and the decision says so. While a candidate is
under way nothing is decided: afterwards what is served then is scored on the newest segment, and that decides.
"""

from collections.abc import Sequence
from dataclasses import replace

from headrace_data.spec import own_name
from headrace_data.tasks import TASKS

from headrace_model_registry.core import deciding, specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.deciding import Untested
from headrace_model_registry.core.facts import (
    DatasetFrozen,
    Decision,
    EvaluationRequested,
    Event,
    LogEntry,
    ModelCompressed,
    ModelEvaluated,
    ModelTrained,
    PipelineSpec,
    RolloutEnded,
    RunFailed,
    TrainingDecided,
    TrainingHeld,
    TrainingRequested,
)
from headrace_model_registry.core.origins import reference
from headrace_model_registry.core.records import RunState, Version
from headrace_model_registry.core.training import training_on, working_spec
from headrace_model_registry.core.verdict import task_learned
from headrace_model_registry.core.wishes import Input, Wish
from headrace_model_registry.core.withheld import why_withheld


def on_frozen(frozen: DatasetFrozen, spec: PipelineSpec, catalogue: Catalogue) -> list[Decision]:
    """Return what follows from a new dataset: training, an evaluation, or both."""
    begun = training_on(frozen, spec, catalogue)
    found = _evaluable(frozen, spec, catalogue)
    asked = _asked(frozen, spec, found, catalogue) if isinstance(found, Version) else []
    if specs.triggers(spec) is None:
        return [*begun, *asked]
    untested = found if isinstance(found, Untested) else _changed(found, spec, catalogue)
    if untested and begun:
        return [_untested(frozen, untested, catalogue), *begun, *asked]
    return asked


def on_spec(frozen: DatasetFrozen, spec: PipelineSpec, catalogue: Catalogue) -> list[Decision]:
    """Return what follows from a spec where the newest dataset was prepared alike."""
    begun = training_on(frozen, spec, catalogue)
    if specs.triggers(spec) is None or not begun:
        return begun
    found = _evaluable(frozen, spec, catalogue)
    served = _served(spec, catalogue)
    untested = _changed(served, spec, catalogue) if served else found
    untested = untested or _changed_under_way(frozen.pipeline, spec, catalogue)
    if not isinstance(untested, Untested):
        return []  # A spec that trains alike makes no dataset one to be trained on that was not.
    is_trained = any(isinstance(each, TrainingRequested | TrainingHeld) for each in begun)
    ends_alone = served is not None and not is_trained and any(isinstance(each, RolloutEnded) for each in begun)
    return begun if ends_alone else [_untested(frozen, untested, catalogue), *begun]


def after(fact: Input, decisions: list[Decision], catalogue: Catalogue) -> list[Decision]:
    """Return what follows for a pipeline's newest dataset where it was not decided on yet, and can be now."""
    own = [fact.pipeline] if isinstance(fact, ModelEvaluated | ModelTrained | ModelCompressed | RunFailed) else []
    own += [each.pipeline for each in decisions if isinstance(each, RolloutEnded)]
    recorded: list[Event] = [] if isinstance(fact, Wish) else [fact]
    return [each for one in dict.fromkeys(own) for each in _after(one, [*recorded, *decisions], catalogue)]


def _after(pipeline: str, events: Sequence[Event], catalogue: Catalogue) -> list[Decision]:
    newest = catalogue.newest_dataset(pipeline)
    if newest is None or catalogue.tested.undecided.get(pipeline) != newest.frozen.dataset_id:
        return []
    then = catalogue.copy()
    for event in events:
        then.fold(LogEntry(newest.freeze_time, event))
    frozen = newest.frozen
    spec = working_spec(pipeline, then.specs[pipeline, frozen.spec_digest], then)
    if specs.triggers(spec) is None or then.is_busy(pipeline):
        return []
    return _decided(frozen, spec, then)


def _decided(frozen: DatasetFrozen, spec: PipelineSpec, catalogue: Catalogue) -> list[Decision]:
    """Return the decision on a dataset and what follows from it, or the evaluation that it waits for."""
    begun = training_on(frozen, spec, catalogue)
    served = _evaluable(frozen, spec, catalogue)
    untested = served if isinstance(served, Untested) else _changed(served, spec, catalogue)
    if isinstance(served, Untested) or untested:
        return [_untested(frozen, untested, catalogue), *begun] if untested and begun else []
    request = _request(frozen, spec, served, catalogue)
    run = catalogue.runs.get(request.run_id)
    if run is None:
        return [request]
    if run.state is RunState.FAILED:
        failed = Untested("failed", f"version {served.ordinal} could not be scored on the new rows: {run.reason}")
        return [replace(_untested(frozen, failed, catalogue), run_id=request.run_id), *begun]
    ended = catalogue.tested.ended.get(request.run_id)
    if ended is None:
        return []
    decision = deciding.decision(ended.evaluated, frozen, served, spec, catalogue)
    if decision.trained and (withheld := why_withheld(frozen, spec)):
        decision = replace(decision, trained=False, cause="withheld", reason=f"{decision.reason}; yet {withheld}")
    return [decision, *begun] if decision.trained else [decision]


def _served(spec: PipelineSpec, catalogue: Catalogue) -> Version | None:
    return catalogue.champion(specs.parse(spec).model)


def _evaluable(frozen: DatasetFrozen, spec: PipelineSpec, catalogue: Catalogue) -> Version | Untested:
    """Return the version that is served where it can be scored on the segment of a dataset, else why not."""
    served = _served(spec, catalogue)
    if served is None:
        return Untested("first", "no version is served yet")
    trained = served.trained
    learned_by = catalogue.spec_of(trained.pipeline, trained.dataset_id)
    run = catalogue.runs.get(trained.run_id)
    by = run.request.spec if run is not None else learned_by
    if learned_by is None or by is None or not specs.same_rows(spec, learned_by):
        return Untested("changed", f"version {served.ordinal} was made for rows of another schema")
    if not specs.same_split(spec, learned_by):
        return Untested("changed", f"version {served.ordinal} was made under another split")
    if not specs.same_question(spec, by) or TASKS[specs.parse(spec).task] is not task_learned(trained):
        return Untested("changed", f"version {served.ordinal} answers another question")
    if frozen.segment is None:
        return Untested("unseen", "no new rows were cut for it")
    if (trained.pipeline, trained.dataset_id) == (frozen.pipeline, frozen.dataset_id):
        return Untested("unseen", f"version {served.ordinal} has learned from its rows")
    return served


def _changed(served: Version, spec: PipelineSpec, catalogue: Catalogue) -> Untested | None:
    """Return why a version is not what a spec would train of the same rows, None where it is."""
    trained = served.trained
    dataset = catalogue.datasets.get((trained.pipeline, trained.dataset_id))
    if dataset is not None and specs.training_run_id(dataset.frozen, spec) == trained.run_id:
        return None
    return Untested("changed", f"the spec trains otherwise than version {served.ordinal} was trained")


def _changed_under_way(pipeline: str, spec: PipelineSpec, catalogue: Catalogue) -> Untested | None:
    """Return that what is served next is not what a spec would train, as where it was taken back; else None."""
    own = (run for run in reversed(catalogue.runs.values()) if run.request.pipeline == pipeline and run.holds_up)
    run = catalogue.waiting(pipeline) or next((run for run in own if run.state is RunState.RUNNING), None)
    ids = [each.advanced.version_id for each in catalogue.tried.rollouts.values() if each.pipeline == pipeline]
    if run is not None and isinstance(run.request, TrainingRequested):
        dataset = catalogue.datasets.get((pipeline, run.request.dataset.dataset_id))
        if dataset is not None and specs.training_run_id(dataset.frozen, spec) != run.request.run_id:
            return Untested("changed", "what is trained now is of another spec")
        return None
    version = catalogue.versions.get((pipeline, run.subject if run is not None else next(iter(ids), "")))
    return None if version is None else _changed(version, spec, catalogue)


def _request(frozen: DatasetFrozen, spec: PipelineSpec, served: Version, catalogue: Catalogue) -> EvaluationRequested:
    segment = frozen.segment
    if segment is None:
        raise ValueError(f"dataset {frozen.dataset_id}: expected the segment of a cut, got none")
    own, version_id = own_name(frozen.pipeline, frozen.incarnation), served.trained.version_id
    run_id = specs.evaluation_run_id(own, version_id, segment.segment_id, spec)
    return EvaluationRequested(run_id, frozen.pipeline, reference(served.trained, catalogue), segment, spec)


def _asked(frozen: DatasetFrozen, spec: PipelineSpec, served: Version, catalogue: Catalogue) -> list[Decision]:
    request = _request(frozen, spec, served, catalogue)
    return [] if request.run_id in catalogue.runs else [request]


def _untested(frozen: DatasetFrozen, why: Untested, catalogue: Catalogue) -> TrainingDecided:
    return deciding.untested(frozen, why, _served_now(frozen, catalogue))


def _served_now(frozen: DatasetFrozen, catalogue: Catalogue) -> Version | None:
    return _served(catalogue.pipelines[frozen.pipeline].spec, catalogue)
