"""Answers to the read methods: pure functions of the catalogue and of the latest progress."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from headrace_model_registry.core.catalogue import Catalogue, Dataset, Release, RunRecord, RunState, Version
from headrace_model_registry.core.facts import DatasetProgressed, PipelineApplied, Progress, RunKind, RunProgressed


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


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """A pipeline's state at one moment; None stands for what is not there yet."""

    filling: DatasetProgressed | None
    dataset: Dataset | None
    runs: tuple[Run, ...]
    version: Version | None
    release: Release | None
    failure: str


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one consumer group is behind on one topic, in messages, transaction markers included."""

    group: str
    topic: str
    messages: int


@dataclass(frozen=True, slots=True)
class ProgressBoard:
    """The latest progress by pipeline and by run. Lossy: empty after a start."""

    filling: Mapping[str, DatasetProgressed] = field(default_factory=dict)
    runs: Mapping[str, RunProgressed] = field(default_factory=dict)

    def showing(self, progress: Progress) -> "ProgressBoard":
        """Return the board with one more message on it; an older attempt never hides a newer one."""
        if isinstance(progress, DatasetProgressed):
            return ProgressBoard({**self.filling, progress.pipeline: progress}, self.runs)
        shown = self.runs.get(progress.run_id)
        if shown is not None and progress.attempt < shown.attempt:
            return self
        return ProgressBoard(self.filling, {**self.runs, progress.run_id: progress})


def pipelines(catalogue: Catalogue, pipeline: str = "") -> list[PipelineApplied]:
    """Return the pipelines by name; all when `pipeline` is empty."""
    return [applied for name, applied in sorted(catalogue.pipelines.items()) if pipeline in ("", name)]


def datasets(catalogue: Catalogue, pipeline: str = "") -> list[Dataset]:
    """Return the datasets of a pipeline, or of all, in the order in which they were frozen."""
    return [dataset for (name, _), dataset in catalogue.datasets.items() if pipeline in ("", name)]


def runs(catalogue: Catalogue, board: ProgressBoard, pipeline: str = "") -> list[Run]:
    """Return the runs of a pipeline, or of all, in the order in which they were asked for."""
    return [_run(record, board) for record in catalogue.runs.values() if pipeline in ("", record.request.pipeline)]


def versions(catalogue: Catalogue, model: str = "") -> list[Version]:
    """Return the versions of a model, or of all, in the order in which they were trained."""
    return [version for version in catalogue.versions.values() if model in ("", version.trained.model)]


def releases(catalogue: Catalogue, model: str = "") -> list[Release]:
    """Return the releases of a model, or of all, in the order in which they were made."""
    return [release for release in catalogue.releases if model in ("", release.released.model)]


def status(catalogue: Catalogue, board: ProgressBoard, pipeline: str) -> PipelineStatus:
    """Return where a pipeline stands: its latest dataset and what came of that one, and its latest release."""
    frozen = datasets(catalogue, pipeline)
    dataset = frozen[-1] if frozen else None
    version = _version_of(catalogue, dataset) if dataset else None
    subjects = {dataset.frozen.dataset_id} if dataset else set()
    if version is not None:
        subjects.add(version.trained.version_id)
    released = [release for release in catalogue.releases if release.released.pipeline == pipeline]
    failure = catalogue.failures.get(pipeline)
    return PipelineStatus(
        filling=board.filling.get(pipeline),
        dataset=dataset,
        runs=tuple(run for run in runs(catalogue, board, pipeline) if run.subject in subjects),
        version=version,
        release=released[-1] if released else None,
        failure=failure.reason if failure else "",
    )


def _version_of(catalogue: Catalogue, dataset: Dataset) -> Version | None:
    wanted = (dataset.frozen.pipeline, dataset.frozen.dataset_id)
    trained = [v for v in catalogue.versions.values() if (v.trained.pipeline, v.trained.dataset_id) == wanted]
    return trained[-1] if trained else None


def _run(record: RunRecord, board: ProgressBoard) -> Run:
    return Run(
        run_id=record.request.run_id,
        pipeline=record.request.pipeline,
        kind=record.kind,
        state=record.state,
        subject=record.subject,
        reason=record.reason,
        progress=board.runs.get(record.request.run_id),
        request_time=record.request_time,
        end_time=record.end_time,
    )
