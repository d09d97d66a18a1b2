"""How far a pipeline is on its way from records to a release: pure functions over the registry's watch state.

A dataset counts when it was frozen with the spec in force. So waiting after `apply` means the dataset that the new spec
brings, and waiting when everything is done ends at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from headrace.events.v1.dataset_pb2 import DatasetFrozen
from headrace.events.v1.run_pb2 import (
    RUN_KIND_CANARY,
    RUN_KIND_COMPRESSION,
    RUN_KIND_EVALUATION,
    RUN_KIND_MEASUREMENT,
    RUN_KIND_TRAINING,
    RunKind,
)
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_data.tasks import TASKS, task_of

from headrace_client.rollouts import text_of
from headrace_client.views import short_id

EVER_RELEASED = (messages.VERSION_STATE_RELEASED, messages.VERSION_STATE_REPLACED)
"""States of a version that was released, now or before."""
MEASURES = {
    "train_loss": "loss",
    "validation_loss": "validation loss",
    **{f"validation_{task.headline.name}": f"validation {task.headline.title}" for task in TASKS.values()},
}
"""The measurements of a run that a progress line shows, with their words."""

LEFT_OUT = {
    "contaminated": "it nearly repeats a row of validation or test",
    "nearDuplicates": "it nearly repeats an earlier row",
    "outliers": "a value lies far from most others of its field",
}
"""Why a dataset leaves a row out of its training split, by the rule by which it does."""


FEW_ROWS = 5
"""Rows of a class in a split below which they are told of: each is over a fifth of what is measured of the class."""


class Goal(StrEnum):
    """What to wait for: the newest dataset frozen, a version trained on it, or that version released."""

    FROZEN = "frozen"
    TRAINED = "trained"
    RELEASED = "released"


class Mark(StrEnum):
    """Where a stage stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Stage:
    """One step of the way: its name, where it stands, and what there is to say."""

    name: str
    mark: Mark
    text: str


@dataclass(frozen=True)
class Wanted:
    """What a dataset must be to count: frozen with this spec, and not the dataset with the id `after`."""

    spec_digest: str
    after: str = ""
    pause_rows: int = 1
    """Clean rows without which a pause cuts no dataset: minRecords."""

    def accepts(self, frozen: DatasetFrozen) -> bool:
        """Return whether a dataset counts."""
        return frozen.spec_digest == self.spec_digest and frozen.dataset_id != self.after


def stages(state: messages.WatchPipelineResponse, goal: Goal, wanted: Wanted) -> list[Stage]:
    """Return the stages up to the goal, in order. The goal is reached when every one is done."""
    counts = state.HasField("dataset") and wanted.accepts(state.dataset.frozen)
    found = [_records(state, counts, wanted.pause_rows), _dataset(state, counts)]
    if goal is Goal.FROZEN:
        return found
    later = [_training(state, counts)]
    if goal is Goal.RELEASED:
        later += [_compression(state, counts), _release(state, counts)]
    if counts and not_trained(state):
        # Nothing comes of the dataset: what is served stays.
        later = [Stage(stage.name, Mark.SKIPPED, "") for stage in later]
    return [*found, *_decision(state, counts), *later]


def not_trained(state: messages.WatchPipelineResponse) -> bool:
    """Return whether it was decided that the latest dataset is not trained on."""
    return state.HasField("decision") and not state.decision.trained and _latest_run(state, RUN_KIND_TRAINING) is None


def reached(found: list[Stage]) -> bool:
    """Return whether the goal is reached, or nothing is left to come."""
    return all(stage.mark in (Mark.DONE, Mark.SKIPPED) for stage in found)


def failure(found: list[Stage]) -> str:
    """Return why the goal cannot be reached any more, the first reason; empty while it can."""
    return next((f"{stage.name} failed: {stage.text}" for stage in found if stage.mark is Mark.FAILED), "")


def waiting_for(found: list[Stage]) -> str:
    """Return what comes next, for the message of a time-out."""
    pending = [stage for stage in found if stage.mark in (Mark.WAITING, Mark.RUNNING)]
    if not pending:
        return "nothing"
    stage = next((stage for stage in pending if stage.mark is Mark.RUNNING), pending[0])
    return f"{stage.name} ({stage.text})"


def rejected_text(rejected: Mapping[str, int]) -> str:
    """Return records that are not in a dataset by rule, such as "3 rejected (range 2, type 1)"; empty for none.

    Those that training is without are told of by themselves: "2 left out of training (nearDuplicates 2)".
    """
    told = {"rejected": rejected.keys() - LEFT_OUT.keys(), "left out of training": rejected.keys() & LEFT_OUT.keys()}
    return _joined(*(_counted({rule: rejected[rule] for rule in rules}, word) for word, rules in told.items()))


def unread_text(unread: Mapping[str, int]) -> str:
    """Return what a SELECT could not read by field, such as "3 not read (amount 3)"; empty for nothing."""
    return _counted(unread, "not read")


def masked_text(masked: Mapping[str, int]) -> str:
    """Return what was masked in texts by kind, such as "3 masked (email 2, phone 1)"; empty for nothing."""
    return _counted(masked, "masked")


def leaks_text(frozen: DatasetFrozen) -> str:
    """Return which training rows validation or test has, too; empty where there is none, or nobody asked."""
    exact, near = frozen.leaks.exact, frozen.leaks.near
    told = [f"{count} {word}" for count, word in ((exact, "the same"), (near, "nearly so")) if count]
    return f"{exact + near} training rows in validation or test, too ({', '.join(told)})" if told else ""


def rarest_text(frozen: DatasetFrozen) -> str:
    """Return the class with the fewest rows in a split where these are so few that measures tell nothing of it."""
    rarest = frozen.rarest
    if not frozen.HasField("rarest") or rarest.rows >= FEW_ROWS:
        return ""
    return f"{rarest.rows or 'no'} row{'s' if rarest.rows != 1 else ''} of {rarest.label!r} in {rarest.split}"


def _counted(counts: Mapping[str, int], word: str) -> str:
    rules = ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items()))
    return f"{sum(counts.values())} {word} ({rules})" if counts else ""


def duration_text(seconds: float) -> str:
    """Return a duration in words short enough for one line: 0.3 s, 8 s, 3 min 05 s, 2 h 10 min."""
    if 0 < seconds < 1:
        return f"{seconds:.1g} s"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _records(state: messages.WatchPipelineResponse, counts: bool, pause_rows: int) -> Stage:
    if counts:
        rows, rejected = state.dataset.frozen.rows, rejected_text(state.dataset.frozen.rejected)
        total = rows.train + rows.validation + rows.test
        masked = masked_text(state.dataset.frozen.masked)
        unread = unread_text(state.dataset.frozen.unread)
        awaiting = _awaiting(state.dataset.frozen.awaiting_labels)
        return Stage("records", Mark.DONE, _joined(f"{total} rows", rejected, masked, unread, awaiting))
    if not state.HasField("filling"):
        if not state.HasField("dataset"):
            return Stage("records", Mark.WAITING, "none has come in yet")
        # Such as after a change of gates: what is there already is not made again.
        since = f"none since dataset {short_id(state.dataset.frozen.dataset_id)}"
        return Stage("records", Mark.RUNNING, f"{since}, which does not count: only new ones bring the next")
    filling = state.filling
    of = f" of {filling.rows_wanted}" if filling.rows_wanted else ""
    few = f"; a pause takes {pause_rows} or more" if filling.rows < pause_rows else ""
    told = _joined(f"{filling.rows}{of} rows", _awaiting(filling.awaiting_labels))
    return Stage("records", Mark.RUNNING, _joined(told, rejected_text(filling.rejected)) + few)


def _awaiting(rows: int) -> str:
    return f"{rows} without their labels yet" if rows else ""


def _dataset(state: messages.WatchPipelineResponse, counts: bool) -> Stage:
    if counts:
        frozen = state.dataset.frozen
        splits = f"{frozen.rows.train} train, {frozen.rows.validation} validation, {frozen.rows.test} test"
        repeated = f"{frozen.repeated_keys} with the key of another row" if frozen.repeated_keys else ""
        late = f"{frozen.late_rows} late" if frozen.late_rows else ""
        held = f"{frozen.held_rows} held back or dropped" if frozen.held_rows else ""
        told = _joined(splits, repeated, late, held, leaks_text(frozen), rarest_text(frozen))
        return Stage("dataset", Mark.DONE, f"{short_id(frozen.dataset_id)}: {told}")
    if state.failure:
        return Stage("dataset", Mark.FAILED, state.failure)
    return Stage("dataset", Mark.WAITING, "freezes when the pipeline's freeze policy says so, or on `headrace freeze`")


def _decision(state: messages.WatchPipelineResponse, counts: bool) -> list[Stage]:
    """Return whether the dataset is trained on, and why; nothing where nobody asks that."""
    if counts and state.HasField("decision"):
        return [Stage("decision", Mark.DONE, state.decision.reason)]
    run = _latest_run(state, RUN_KIND_EVALUATION) if counts else None
    if run is None or run.state != messages.RUN_STATE_RUNNING or _latest_run(state, RUN_KIND_TRAINING) is not None:
        return []
    return [Stage("decision", Mark.RUNNING, "what is served is scored on the new rows")]


def _training(state: messages.WatchPipelineResponse, counts: bool) -> Stage:
    run = _latest_run(state, RUN_KIND_TRAINING) if counts else None
    if run is not None and run.state == messages.RUN_STATE_FAILED:
        return Stage("training", Mark.FAILED, f"run {short_id(run.run_id)}: {run.reason}")
    if run is not None and run.state == messages.RUN_STATE_RUNNING:
        return Stage("training", Mark.RUNNING, _progress(run, "epoch"))
    if run is not None and run.state == messages.RUN_STATE_WAITING:
        return Stage("training", Mark.WAITING, "begins after the candidate that is under way")
    if counts and state.HasField("version"):
        trained = state.version.trained
        task = task_of(trained.task, trained.metrics)
        measure = task.measure(trained.measure)
        judge = task.judged_by(measure)
        value, found = trained.metrics.get(measure.name), task.baseline(trained.metrics, judge)
        tested = "" if value is None else f"test {measure.name} {value:.4f}"
        of = "" if judge is measure else f"{judge.name} "
        beside = f" ({of}{found.value:.4f} by {found.always})" if found else ""
        return Stage("training", Mark.DONE, _joined(f"{trained.epochs} epochs", tested + beside))
    if counts and state.withheld:
        return Stage("training", Mark.FAILED, f"it was not asked for: {state.withheld}")
    return Stage("training", Mark.WAITING, "starts after the dataset")


def _compression(state: messages.WatchPipelineResponse, counts: bool) -> Stage:
    run = _latest_run(state, RUN_KIND_COMPRESSION) if counts else None
    if run is not None and run.state == messages.RUN_STATE_FAILED:
        return Stage("compression", Mark.FAILED, f"run {short_id(run.run_id)}: {run.reason}")
    if run is not None and run.state == messages.RUN_STATE_RUNNING:
        return Stage("compression", Mark.RUNNING, _progress(run, "variant"))
    released = state.version.state in EVER_RELEASED
    if counts and (state.version.variants or released):
        names = ", ".join(variant.name for variant in state.version.variants) or "fp32"
        return Stage("compression", Mark.DONE, f"variants {names}")
    return Stage("compression", Mark.WAITING, "starts after training")


def _release(state: messages.WatchPipelineResponse, counts: bool) -> Stage:
    version = state.version
    if counts and state.HasField("rollout") and state.rollout.version_id == version.trained.version_id:
        return Stage("release", Mark.RUNNING, text_of(state.rollout))
    if not counts or not state.HasField("version") or _any_running(state):
        return Stage("release", Mark.WAITING, "comes when a variant passes its gates")
    # A version that was released before and refused when it was judged again keeps its state and gets a reason.
    if version.state == messages.VERSION_STATE_REFUSED or version.reason:
        return Stage("release", Mark.FAILED, f"version {version.ordinal} was refused: {version.reason}")
    if version.state not in EVER_RELEASED:
        return Stage("release", Mark.WAITING, f"version {version.ordinal} is being judged")
    released = state.release.released
    if released.version_id != version.trained.version_id:
        return Stage("release", Mark.DONE, f"version {version.ordinal} was released; {released.ordinal} is served now")
    return Stage(
        "release", Mark.DONE, f"{released.model} version {released.ordinal}, {released.variant}, as {released.alias}"
    )


def _latest_run(state: messages.WatchPipelineResponse, kind: RunKind.ValueType) -> messages.Run | None:
    runs = [run for run in state.runs if run.kind == kind]
    return runs[-1] if runs else None


def _any_running(state: messages.WatchPipelineResponse) -> bool:
    """Tell whether a run goes on that a release waits for: for a class to be measured on there may be no compressor."""
    beside = (RUN_KIND_CANARY, RUN_KIND_EVALUATION, RUN_KIND_MEASUREMENT)
    held_up = (run for run in state.runs if run.kind not in beside)
    return any(run.state == messages.RUN_STATE_RUNNING for run in held_up)


def _progress(run: messages.Run, unit: str) -> str:
    if not run.HasField("progress"):
        return f"run {short_id(run.run_id)} was asked for"
    progress = run.progress
    attempt = f"attempt {progress.attempt}" if progress.attempt > 1 else ""
    measured = [f"{word} {progress.metrics[name]:.4f}" for name, word in MEASURES.items() if name in progress.metrics]
    left = f"about {duration_text(progress.eta_s)} left" if progress.eta_s > 0 else ""
    return _joined(f"{unit} {progress.step} of {progress.steps}", attempt, *measured, left)


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
