"""Answers to the read methods: pure functions of the catalogue and of the latest progress."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from headrace_data.tasks import TASKS

from headrace_model_registry.core import recalibration, specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    EvaluationRequested,
    ModelEvaluated,
    PipelineApplied,
    RunKind,
    TrainingDecided,
)
from headrace_model_registry.core.progress import (
    DatasetProgressed,
    PipelineTroubled,
    Progress,
    QualityMeasured,
    RolloutObserved,
    RunProgressed,
)
from headrace_model_registry.core.records import Dataset, Held, Release, RunRecord, RunState, Version
from headrace_model_registry.core.rollout import Observed, Rollout, added, merged
from headrace_model_registry.core.tested import Decided
from headrace_model_registry.core.withheld import why_withheld

MOST_TROUBLES = 500
MOST_QUALITIES = 500
"""The board holds no more: the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as callers see it. `progress` is None before the first, `end_time` before the end."""

    run_id: str
    pipeline: str
    kind: RunKind
    state: RunState
    subject: str
    reason: str
    progress: RunProgressed | None
    request_time: datetime
    end_time: datetime | None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """A pipeline's state at one moment; None stands for what is not there yet."""

    filling: DatasetProgressed | None
    dataset: Dataset | None
    runs: tuple[Run, ...]
    version: Version | None
    release: Release | None
    failure: str
    troubles: tuple[PipelineTroubled, ...] = ()
    withheld: str = ""
    """Why nothing is trained on the dataset, by the spec in force; empty when something may be."""
    held: tuple[Held, ...] = ()
    """The segments that are held or were dropped."""
    decision: TrainingDecided | None = None
    """What was decided of the dataset."""
    qualities: tuple[QualityMeasured, ...] = ()
    """How good answers were whose labels came later, by version."""
    rollout: Rollout | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation as callers see it. `ordinal` is 0 for a version that is not known any more."""

    evaluated: ModelEvaluated
    end_time: datetime
    ordinal: int
    measure: str


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one consumer group is behind on one topic, in messages, transaction markers included."""

    group: str
    topic: str
    messages: int
    suspected: int = 0
    """Partitions in which processes died, so that messages are tried before they are handled."""


@dataclass(frozen=True, slots=True)
class ProgressBoard:
    """The latest progress by pipeline and by run. Lossy: empty after a start."""

    filling: Mapping[str, DatasetProgressed] = field(default_factory=dict)
    runs: Mapping[str, RunProgressed] = field(default_factory=dict)
    troubles: Mapping[tuple[str, ...], PipelineTroubled] = field(default_factory=dict)
    """By pipeline, part, instance and subject, the latest told last."""
    qualities: Mapping[tuple[str, str, str], QualityMeasured] = field(default_factory=dict)
    """By pipeline, version and the candidate of the canary that it is of, the latest told last."""
    tried: Mapping[str, tuple[int, Mapping[str, RolloutObserved]]] = field(default_factory=dict)
    """By model, what each replica counted of the candidate's latest step, and that step's epoch."""

    def observed(self, model: str, epoch: int) -> Observed:
        """Return what all replicas counted of a candidate since the release that has this epoch."""
        shown, replicas = self.tried.get(model, (0, {}))
        if shown != epoch:
            return Observed()
        fault = next((each.fault for each in replicas.values() if each.fault), "")
        return Observed(added(each.counts for each in replicas.values()), fault)

    def quality(self, pipeline: str, incarnation: int, version_id: str, tried_id: str = "") -> QualityMeasured | None:
        """Return how good the answers of a version were, or those to calls of a candidate's canary alone."""
        found = self.qualities.get((pipeline, version_id, tried_id))
        return found if found is not None and found.incarnation == incarnation else None

    def _trying(self, told: RolloutObserved) -> "ProgressBoard":
        epoch, replicas = self.tried.get(told.model, (0, {}))
        if told.epoch < epoch:
            return self
        own = replicas.get(told.replica) if told.epoch == epoch else None
        if own is not None:
            told = replace(told, counts=merged(own.counts, told.counts), fault=own.fault or told.fault)
        kept = {**(replicas if told.epoch == epoch else {}), told.replica: told}
        return replace(self, tried={**self.tried, told.model: (told.epoch, kept)})

    def showing(self, progress: Progress) -> "ProgressBoard":
        """Return the board with one more message on it; an older attempt never hides a newer one."""
        if isinstance(progress, PipelineTroubled):
            place = (progress.pipeline, progress.part, progress.instance, progress.subject)
            others = {known: trouble for known, trouble in self.troubles.items() if known != place}
            told = list((others | ({place: progress} if progress.reason else {})).items())
            return replace(self, troubles=dict(told[-MOST_TROUBLES:]))
        if isinstance(progress, RolloutObserved):
            return self._trying(progress)
        if isinstance(progress, DatasetProgressed):
            return replace(self, filling={**self.filling, progress.pipeline: progress})
        if isinstance(progress, QualityMeasured):
            return replace(self, qualities=_with_quality(self.qualities, progress))
        shown = self.runs.get(progress.run_id)
        if shown is not None and progress.attempt < shown.attempt:
            return self
        return replace(self, runs={**self.runs, progress.run_id: progress})


def _with_quality(
    known: Mapping[tuple[str, str, str], QualityMeasured], told: QualityMeasured
) -> dict[tuple[str, str, str], QualityMeasured]:
    place = (told.pipeline, told.version_id, told.tried_version_id)
    others = {other: quality for other, quality in known.items() if other != place}
    return dict(list((others | {place: told}).items())[-MOST_QUALITIES:])


def pipelines(catalogue: Catalogue, pipeline: str = "") -> list[PipelineApplied]:
    """Return the pipelines by name; all when `pipeline` is empty."""
    return [applied for name, applied in sorted(catalogue.pipelines.items()) if pipeline in ("", name)]


def troubles(catalogue: Catalogue, board: ProgressBoard, now: datetime) -> list[PipelineTroubled]:
    """Return what is wrong with the pipelines at a moment (aware), by pipeline and part."""
    return sorted(
        (
            trouble
            for trouble in board.troubles.values()
            if trouble.pipeline in catalogue.pipelines
            and (not trouble.valid_s or (now - trouble.occur_time).total_seconds() < trouble.valid_s)
        ),
        key=lambda trouble: (trouble.pipeline, trouble.part, trouble.instance, trouble.subject),
    )


def datasets(catalogue: Catalogue, pipeline: str = "") -> list[Dataset]:
    """Return the datasets of a pipeline, or of all, in the order in which they were frozen."""
    return [dataset for (name, _), dataset in catalogue.datasets.items() if pipeline in ("", name)]


def runs(catalogue: Catalogue, board: ProgressBoard, pipeline: str = "") -> list[Run]:
    """Return the runs of a pipeline, or of all, in the order in which they were asked for."""
    return [run_of(record, board) for record in catalogue.runs.values() if pipeline in ("", record.request.pipeline)]


def versions(catalogue: Catalogue, model: str = "") -> list[Version]:
    """Return the versions of a model, or of all, in the order in which they were trained."""
    return [version for version in catalogue.versions.values() if model in ("", version.trained.model)]


def releases(catalogue: Catalogue, model: str = "") -> list[Release]:
    """Return the releases of a model, or of all, in the order in which they were made."""
    return [release for release in catalogue.releases if model in ("", release.released.model)]


def decisions(catalogue: Catalogue, pipeline: str = "") -> list[Decided]:
    """Return what was decided of the datasets of a pipeline, or of all, in the order in which it was."""
    return [each for each in catalogue.tested.decided if pipeline in ("", each.decided.pipeline)]


def evaluations(catalogue: Catalogue, pipeline: str = "") -> list[Evaluated]:
    """Return what was scored on new rows of a pipeline, or of all, in the order in which that was known."""
    ended = (each for each in catalogue.tested.ended.values() if pipeline in ("", each.evaluated.pipeline))
    found = ((each, _of_version(catalogue, each.evaluated.version_id)) for each in ended)
    return [
        Evaluated(each.evaluated, each.end_time, version.ordinal if version else 0, _measure(each.evaluated, catalogue))
        for each, version in found
    ]


def _of_version(catalogue: Catalogue, version_id: str) -> Version | None:
    return next((each for (_, name), each in catalogue.versions.items() if name == version_id), None)


def _measure(evaluated: ModelEvaluated, catalogue: Catalogue) -> str:
    run = catalogue.runs.get(evaluated.run_id)
    return TASKS[evaluated.task].measure(specs.measure(run.request.spec) if run else None).name


def status(catalogue: Catalogue, board: ProgressBoard, pipeline: str) -> PipelineStatus:
    """Return where a pipeline stands: its latest dataset, what came of that one, and its latest release.

    When the spec in force has a run on that dataset, only that run and what followed from it are shown, whatever other
    specs made of the same rows. A dataset that was trained on again because of a changed spec is shown as one of that
    spec: both prepare the same rows alike, and the spec brings no other dataset before new records.
    """
    dataset = catalogue.newest_dataset(pipeline)
    own = _own_run(catalogue, dataset) if dataset else None
    version = _version_of(catalogue, dataset, own) if dataset else None
    subjects = {version.trained.version_id} if version else set()
    if own is None and dataset is not None:
        subjects.add(dataset.frozen.dataset_id)
    wanted = own.request.run_id if own else ""
    released = [release for release in catalogue.releases if release.released.pipeline == pipeline]
    failure = catalogue.failures.get(pipeline)
    filling, applied = board.filling.get(pipeline), catalogue.pipelines[pipeline]
    return PipelineStatus(
        filling=filling if filling and filling.incarnation == applied.incarnation else None,
        dataset=_as_current(catalogue, dataset, own) if dataset and own else dataset,
        runs=tuple(
            run
            for run in runs(catalogue, board, pipeline)
            if run.subject in subjects or run.run_id == wanted or _is_on_segment(catalogue, run.run_id, dataset)
        ),
        version=version,
        release=released[-1] if released else None,
        failure=failure.reason if failure else "",
        qualities=tuple(
            quality
            for (of, _, tried_id), quality in board.qualities.items()
            if of == pipeline and not tried_id and quality.incarnation == applied.incarnation
        ),
        withheld=why_withheld(dataset.frozen, applied.spec) if dataset and own is None else "",
        held=tuple(each for (name, _), each in catalogue.held.items() if name == pipeline),
        decision=catalogue.tested.of_dataset(pipeline, dataset.frozen.dataset_id) if dataset else None,
    )


def _is_on_segment(catalogue: Catalogue, run_id: str, dataset: Dataset | None) -> bool:
    request = catalogue.runs[run_id].request
    return (
        isinstance(request, EvaluationRequested) and dataset is not None and request.segment == dataset.frozen.segment
    )


def _own_run(catalogue: Catalogue, dataset: Dataset) -> RunRecord | None:
    """Return the training run that the spec in force has on a dataset, None when it asked for none."""
    frozen = dataset.frozen
    spec = catalogue.pipelines[frozen.pipeline].spec
    return catalogue.runs.get(specs.training_run_id(frozen, spec))


def _as_current(catalogue: Catalogue, dataset: Dataset, own: RunRecord) -> Dataset:
    spec = catalogue.pipelines[dataset.frozen.pipeline].spec
    if own.request.spec != spec:
        return dataset  # they differ in what is no matter of training: the spec's own dataset is still to come
    return replace(dataset, frozen=replace(dataset.frozen, spec_digest=spec.digest))


def _version_of(catalogue: Catalogue, dataset: Dataset, own: RunRecord | None) -> Version | None:
    wanted = (dataset.frozen.pipeline, dataset.frozen.dataset_id)
    trained = [v for v in catalogue.versions.values() if (v.trained.pipeline, v.trained.dataset_id) == wanted]
    if own is not None:
        trained = [version for version in trained if version.trained.run_id == own.request.run_id]
    return trained[-1] if trained else None


def run_of(record: RunRecord, board: ProgressBoard) -> Run:
    """Return a run as callers see it, with its latest progress."""
    return Run(
        run_id=record.request.run_id,
        pipeline=record.request.pipeline,
        kind=recalibration.kind(record),
        state=record.state,
        subject=record.subject,
        reason=record.reason,
        progress=board.runs.get(record.request.run_id),
        request_time=record.request_time,
        end_time=record.end_time,
        origin=record.origin,
    )
