"""What the registry knows: a fold over the entries of its log, in their order.

Nothing here judges. The policy decides what is written, the fold only remembers it, so that the same log gives the
same catalogue however often and by whatever later policy it is read.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import singledispatchmethod
from typing import TypeAlias

from headrace_model_registry.core.facts import (
    CANDIDATE,
    CHAMPION,
    CanaryJudged,
    CompressionRequested,
    DatasetFailed,
    DatasetFrozen,
    DatasetRequested,
    EvaluationRequested,
    Event,
    KeyForgotten,
    LogEntry,
    ModelCompressed,
    ModelEvaluated,
    ModelRefused,
    ModelReleased,
    ModelTrained,
    ModelWithdrawn,
    PipelineApplied,
    PipelineDeleted,
    PipelineSpec,
    RolloutAdvanced,
    RolloutEnded,
    RunFailed,
    RunKind,
    TrainingDecided,
    TrainingHeld,
    TrainingRefused,
    TrainingRequested,
    TrainingSuperseded,
    VersionRetired,
)
from headrace_model_registry.core.facts.classes import GateResult
from headrace_model_registry.core.facts.hold import HoldState
from headrace_model_registry.core.judged import judged, judged_elsewhere, measured
from headrace_model_registry.core.records import (
    Dataset,
    ForgottenKey,
    Held,
    Release,
    RunRecord,
    RunState,
    Version,
    VersionState,
)
from headrace_model_registry.core.seen import seen_by
from headrace_model_registry.core.suspected import suspected
from headrace_model_registry.core.tested import Tested
from headrace_model_registry.core.tried import Tried

Key: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class Catalogue:
    """Everything recorded. Its values are immutable, so a copy is shallow and a reader may keep what it was given."""

    pipelines: dict[str, PipelineApplied] = field(default_factory=dict)
    """The spec in force, by pipeline."""
    specs: dict[Key, PipelineSpec] = field(default_factory=dict)
    """Every spec that was ever in force, by pipeline and digest."""
    datasets: dict[Key, Dataset] = field(default_factory=dict)
    """By pipeline and dataset id, the latest frozen last."""
    failures: dict[str, DatasetFailed] = field(default_factory=dict)
    """Why the latest freeze of a pipeline failed; no entry once anything newer happened to it."""
    ended_requests: set[str] = field(default_factory=set)
    """Requests for a dataset that were answered."""
    runs: dict[str, RunRecord] = field(default_factory=dict)
    """By run id, in the order in which they were asked for."""
    versions: dict[Key, Version] = field(default_factory=dict)
    """By pipeline and version id, in the order in which they were trained."""
    ordinals: dict[str, int] = field(default_factory=dict)
    """The highest ordinal given, by model."""
    releases: list[Release] = field(default_factory=list)
    """In the order in which they were made."""
    aliases: dict[Key, Release] = field(default_factory=dict)
    """The release in force, by model and alias."""
    epochs: dict[Key, int] = field(default_factory=dict)
    """The highest epoch given, by model and alias."""
    forgotten: list[ForgottenKey] = field(default_factory=list)
    """The keys that were forgotten, in the order in which they were."""
    tried: Tried = field(default_factory=Tried)
    """Rollouts, and canaries on rows of the past."""
    departed: dict[tuple[str, int], "Catalogue"] = field(default_factory=dict)
    """What was known of each deleted pipeline, by its name and the number of those deleted before it."""
    held: dict[Key, Held] = field(default_factory=dict)
    """The segments that are held or were dropped, by pipeline and segment id, in the order of their cuts."""
    tested: Tested = field(default_factory=Tested)
    """What is served on new rows, and what was decided by that."""

    def copy(self) -> "Catalogue":
        """Return a catalogue that can be folded on without changing this one."""
        return Catalogue(*(copy(getattr(self, name)) for name in self.__slots__))

    def fold(self, entry: LogEntry) -> None:
        """Remember one entry of the log. Never fails on what earlier entries leave open."""
        self._fold(entry.event, entry.occur_time)

    def champion(self, model: str) -> Version | None:
        """Return the version that is served under this model's name, None when nothing is."""
        release = self.aliases.get((model, CHAMPION))
        return self.versions.get((release.released.pipeline, release.released.version_id)) if release else None

    def epoch(self, model: str, alias: str) -> int:
        """Return the epoch of the alias's latest release, 0 before the first."""
        return self.epochs.get((model, alias), 0)

    def incarnation(self, pipeline: str) -> int:
        """Return how many pipelines of a name were deleted."""
        return sum(name == pipeline for name, _ in self.departed)

    @property
    def homes(self) -> tuple["Catalogue", ...]:
        """This catalogue and those of deleted pipelines, the one deleted last first: where an id may be known."""
        return (self, *reversed(self.departed.values()))

    def newest_dataset(self, pipeline: str) -> Dataset | None:
        """Return the dataset that a pipeline froze last, None before the first."""
        return next((dataset for (name, _), dataset in reversed(self.datasets.items()) if name == pipeline), None)

    def spec_of(self, pipeline: str, dataset_id: str) -> PipelineSpec | None:
        """Return the spec that a dataset was prepared with, None when either is unknown."""
        dataset = self.datasets.get((pipeline, dataset_id))
        return self.specs.get((pipeline, dataset.frozen.spec_digest)) if dataset else None

    def waiting(self, pipeline: str) -> RunRecord | None:
        """Return the training run of a pipeline that waits for the candidate under way, None when none does."""
        return next((run for run in self._latest_runs(pipeline) if run.state is RunState.WAITING), None)

    def is_busy(self, pipeline: str, ended: str = "", ended_rollout: str = "") -> bool:
        """Return whether a pipeline's candidate is under way: the run begun last has not ended; `ended` names one.

        An earlier run that never ended, as in logs of before runs were held, holds up nothing. A candidate is under way
        until its rollout has ended; `ended_rollout` names the model of one that ends now.
        """
        if self.tried.is_busy(pipeline, ended_rollout):
            return True
        never = (RunState.WAITING, RunState.SUPERSEDED)
        latest = next((run for run in self._latest_runs(pipeline) if run.state not in never and run.holds_up), None)
        return latest is not None and latest.state is RunState.RUNNING and latest.request.run_id != ended

    def made_by(self, pipeline: str, version_id: str, ending: str = "") -> CompressionRequested | None:
        """Return what the variants of a version were made by, `ending` being a run whose end is not recorded yet."""
        done = (run for run in self._latest_runs(pipeline) if run.holds_up and run.subject == version_id)
        made = (run for run in done if run.state is RunState.SUCCEEDED or run.request.run_id == ending)
        return next((run.request for run in made if isinstance(run.request, CompressionRequested)), None)

    def is_older(self, one: ModelTrained, other: ModelTrained) -> bool:
        """Return whether one version learned from older data than another: from a dataset that was frozen before.

        Of two that learned from the same dataset, the one that was asked for first is older.
        """
        datasets = [(each.pipeline, each.dataset_id) for each in (one, other)]
        if datasets[0] != datasets[1]:
            latest = next((key for key in reversed(self.datasets) if key in datasets), datasets[0])
            return latest == datasets[1]
        latest_run = next((name for name in reversed(self.runs) if name in (one.run_id, other.run_id)), one.run_id)
        return latest_run != one.run_id

    def _latest_runs(self, pipeline: str) -> Iterator[RunRecord]:
        return (run for run in reversed(self.runs.values()) if run.request.pipeline == pipeline)

    @singledispatchmethod
    def _fold(self, event: Event, _time: datetime) -> None:
        raise TypeError(f"the log holds a {type(event).__name__}, which no fold knows")

    @_fold.register
    def _(self, event: PipelineApplied, _time: datetime) -> None:
        self.pipelines[event.pipeline] = event
        self.specs[event.pipeline, event.spec.digest] = event.spec
        self.failures.pop(event.pipeline, None)

    @_fold.register
    def _(self, event: PipelineDeleted, time: datetime) -> None:
        gone = Catalogue()
        for name in ("pipelines", "failures"):
            moved = getattr(self, name).pop(event.pipeline, None)
            if moved is not None:
                getattr(gone, name)[event.pipeline] = moved
        for name in ("specs", "datasets", "versions", "held"):
            known = getattr(self, name)
            getattr(gone, name).update((key, known.pop(key)) for key in list(known) if key[0] == event.pipeline)
        for run in list(self._latest_runs(event.pipeline))[::-1]:
            gone.runs[run.request.run_id] = self.runs.pop(run.request.run_id)
            if run.state in (RunState.RUNNING, RunState.WAITING):
                waited = run.state is RunState.WAITING
                gone._end_run(run.request.run_id, RunState.FAILED, time, "the pipeline was deleted", never_began=waited)
        gone.releases = [release for release in self.releases if release.released.pipeline == event.pipeline]
        self.releases = [release for release in self.releases if release.released.pipeline != event.pipeline]
        gone.tested = self.tested.part(event.pipeline)
        self.tried.forget(event.pipeline)
        self.departed[event.pipeline, event.incarnation] = gone

    @_fold.register
    def _(self, event: ModelWithdrawn, _time: datetime) -> None:
        self.aliases.pop((event.model, event.alias), None)

    @_fold.register
    def _(self, event: DatasetRequested, _time: datetime) -> None:
        self.failures.pop(event.pipeline, None)

    @_fold.register
    def _(self, event: DatasetFrozen, time: datetime) -> None:
        key = (event.pipeline, event.dataset_id)
        self.datasets.pop(key, None)  # frozen again: it becomes the latest one
        self.datasets[key] = Dataset(event, time)
        self.failures.pop(event.pipeline, None)
        self._end_request(event.request_id)
        suspected(self.held, event.pipeline, event.held, time)
        self.tested.freeze(event)

    @_fold.register
    def _(self, event: DatasetFailed, time: datetime) -> None:
        self.failures[event.pipeline] = event
        if event.held is not None and event.held.state is HoldState.DROPPED:
            del self.failures[event.pipeline]  # that was asked for
        self._end_request(event.request_id)
        suspected(self.held, event.pipeline, event.held, time, event.reason)

    @_fold.register
    def _(self, event: KeyForgotten, time: datetime) -> None:
        seen = seen_by(event, self)
        self.versions.update(seen)
        self.forgotten.append(ForgottenKey(event, time, tuple(version_id for _, version_id in seen)))
        self._end_request(event.request_id)

    @_fold.register
    def _(self, event: TrainingRequested, time: datetime) -> None:
        self._ask(event, time)

    @_fold.register
    def _(self, event: TrainingHeld, time: datetime) -> None:
        request = TrainingRequested(event.run_id, event.pipeline, event.dataset, event.spec)
        self._ask(request, time, RunState.WAITING)

    @_fold.register
    def _(self, event: TrainingRefused, time: datetime) -> None:
        self._ask(TrainingRequested(event.run_id, event.pipeline, event.dataset, event.spec), time)
        self._end_run(event.run_id, RunState.FAILED, time, event.reason, never_began=True)

    @_fold.register
    def _(self, event: TrainingSuperseded, time: datetime) -> None:
        self._end_run(event.run_id, RunState.SUPERSEDED, time, event.reason)

    @_fold.register
    def _(self, event: CompressionRequested, time: datetime) -> None:
        self._ask(event, time)

    @_fold.register
    def _(self, event: EvaluationRequested, time: datetime) -> None:
        self._ask(event, time)

    @_fold.register
    def _(self, event: ModelEvaluated, time: datetime) -> None:
        self._end_run(event.run_id, RunState.SUCCEEDED, time)
        self.tested.end(event, time)

    @_fold.register
    def _(self, event: TrainingDecided, time: datetime) -> None:
        self.tested.decide(event, time)

    @_fold.register
    def _(self, event: ModelTrained, time: datetime) -> None:
        self._end_run(event.run_id, RunState.SUCCEEDED, time)
        key = (event.pipeline, event.version_id)
        if key not in self.versions:
            ordinal = self.ordinals.get(event.model, 0) + 1
            self.ordinals[event.model] = ordinal
            self.versions[key] = Version(event, ordinal)

    @_fold.register
    def _(self, event: ModelCompressed, time: datetime) -> None:
        self._end_run(event.run_id, RunState.SUCCEEDED, time)
        version = self.versions.get((event.pipeline, event.version_id))
        if version is None:
            return
        run = self.runs.get(event.run_id)
        made_by = self.made_by(event.pipeline, event.version_id)
        self.versions[event.pipeline, event.version_id] = measured(version, event, run and run.request, made_by)

    @_fold.register
    def _(self, event: RunFailed, time: datetime) -> None:
        run = self.runs.get(event.run_id)
        self._end_run(event.run_id, RunState.FAILED, time, event.reason)
        if run is not None and run.kind is RunKind.COMPRESSION and run.holds_up:
            version = self.versions.get((run.request.pipeline, run.subject))
            # Without measurements nothing can be judged: the version waits for nothing any more.
            if version is not None and version.state is VersionState.CANDIDATE:
                self._judge(event.pipeline, run.subject, VersionState.REFUSED, reason=f"compression: {event.reason}")

    @_fold.register
    def _(self, event: CanaryJudged, time: datetime) -> None:
        self._end_run(event.run_id, RunState.SUCCEEDED, time)
        self.tried.note(event, time)

    @_fold.register
    def _(self, event: ModelReleased, time: datetime) -> None:
        release = Release(event, time)
        if event.alias != CANDIDATE:  # of those the rollout tells
            self.releases.append(release)
        before = self.aliases.get((event.model, event.alias))
        self.aliases[event.model, event.alias] = release
        self.epochs[event.model, event.alias] = event.epoch
        if before is not None:
            self._replace(before.released)
        state = VersionState.CANDIDATE if event.alias == CANDIDATE else VersionState.RELEASED
        self._judge(event.pipeline, event.version_id, state, event.gates)
        if (version := self.versions.get((event.pipeline, event.version_id))) is not None:
            self.versions[event.pipeline, event.version_id] = judged_elsewhere(version, event.classes)

    @_fold.register
    def _(self, event: RolloutAdvanced | RolloutEnded, time: datetime) -> None:
        self.tried.note(event, time)

    @_fold.register
    def _(self, event: ModelRefused, _time: datetime) -> None:
        version = self.versions.get((event.pipeline, event.version_id))
        once_released = version is not None and version.state in (VersionState.RELEASED, VersionState.REPLACED)
        state = version.state if version is not None and once_released else VersionState.REFUSED
        self._judge(event.pipeline, event.version_id, state, event.gates, event.reason)

    @_fold.register
    def _(self, event: VersionRetired, _time: datetime) -> None:
        version = self.versions.get((event.pipeline, event.version_id))
        if version is not None:
            self.versions[event.pipeline, event.version_id] = replace(version, state=VersionState.RETIRED)

    def _replace(self, before: ModelReleased) -> None:
        """Note that a version is served no more, unless another alias names it."""
        served = [(each.released.pipeline, each.released.version_id) for each in self.aliases.values()]
        key = (before.pipeline, before.version_id)
        version = self.versions.get(key)
        if version is not None and version.state is VersionState.RELEASED and key not in served:
            self.versions[key] = replace(version, state=VersionState.REPLACED)

    def _end_request(self, request_id: str) -> None:
        if request_id:
            self.ended_requests.add(request_id)

    def _ask(
        self,
        request: TrainingRequested | CompressionRequested | EvaluationRequested,
        time: datetime,
        state: RunState = RunState.RUNNING,
    ) -> None:
        if isinstance(request, TrainingRequested):
            self.tested.settle(request.pipeline, request.dataset.dataset_id)
        self.runs.pop(request.run_id, None)  # one that waited begins now: it becomes the latest
        self.runs[request.run_id] = RunRecord(request, time, state)

    def _end_run(
        self, run_id: str, state: RunState, time: datetime, reason: str = "", *, never_began: bool = False
    ) -> None:
        run = self.runs.get(run_id)
        if run is not None:
            self.runs[run_id] = replace(run, state=state, reason=reason, end_time=time, never_began=never_began)

    def _judge(
        self,
        pipeline: str,
        version_id: str,
        state: VersionState,
        gates: tuple[GateResult, ...] = (),
        reason: str = "",
    ) -> None:
        version = self.versions.get((pipeline, version_id))
        if version is not None:
            self.versions[pipeline, version_id] = judged(version, state, gates, reason)
