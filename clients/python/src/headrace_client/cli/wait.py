"""`wait`: follow a pipeline until it is frozen, trained or released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live

from headrace_client.addresses import find_addresses
from headrace_client.cli.durations import seconds
from headrace_client.cli.output import JsonOption, coloured, note, plain, print_json, print_parts, say, stderr, table
from headrace_client.cli.tables import task_and_measure, variants
from headrace_client.decision_views import decided_view
from headrace_client.doubts import doubts
from headrace_client.errors import HeadraceClientError, PipelineFailed, TimedOut
from headrace_client.inference import InferenceClient
from headrace_client.registry import RegistryClient
from headrace_client.stages import Goal, Mark, Stage
from headrace_client.views import View, dataset_view, release_view, run_view, trouble_text, trouble_view, version_view
from headrace_client.waiting import Progress, wait_for, wait_served


def wait(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    until: Annotated[Goal, typer.Option("--until", help="What to wait for.")] = Goal.RELEASED,
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="Give up after this time.")] = "5m",
    after: Annotated[
        str,
        typer.Option("--after", metavar="DATASET", help="Id of a dataset that does not count: wait for a newer one."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Wait for the newest dataset under the spec in force; ends at once when it is released already.

    It ends as well, and says why, when it was decided that the dataset is not trained on. Ends with 1 and the reason
    when a freeze or a run fails, a version is refused, or time is over.
    """
    timeout_s = seconds(timeout)
    latest = Progress()
    try:
        with RegistryClient(find_addresses().registry) as registry, _shown() as show:

            def on_progress(progress: Progress) -> None:
                latest.state, latest.stages = progress.state, progress.stages
                show(progress.stages, _troubles(progress))

            wait_for(registry, pipeline, until, timeout_s=timeout_s, after=after, on_progress=on_progress)
    except (PipelineFailed, TimedOut) as error:
        _finish(pipeline, until, latest, as_json, error)
        raise
    _finish(pipeline, until, latest, as_json, None)


def _troubles(progress: Progress) -> list[str]:
    troubles = progress.state.troubles if progress.state else ()
    return [trouble_text(trouble_view(trouble)) for trouble in troubles]


def _served(until: Goal, latest: Progress) -> bool | None:
    """Return whether inference serves the release, after a moment for loading it; None when there is none to serve.

    So a `predict` after `wait` finds the model. That inference cannot be reached from here is no failure of the wait.
    """
    if until is not Goal.RELEASED or latest.state is None:
        return None
    released = latest.state.release.released
    with InferenceClient(find_addresses().inference, patience_s=0.0) as inference:
        try:
            served = wait_served(inference, released)
        except HeadraceClientError:
            return None
    if not served:
        note(f"version {released.ordinal} of {released.model} is released, but inference does not serve it yet")
    return served


def _finish(
    pipeline: str, until: Goal, latest: Progress, as_json: bool, error: PipelineFailed | TimedOut | None
) -> None:
    view = _view(pipeline, until, latest, error)
    view["served"] = _served(until, latest) if error is None else None
    if as_json:
        print_json(view)
        return
    if until is Goal.RELEASED and view["version"] and view["version"]["variants"] and _ended_in_release(latest):
        print_parts(variants(view["version"]))
        say("")
    if version := view["version"]:
        for doubt in doubts(*task_and_measure(version), version["metrics"]):
            say(f"version {version['ordinal']} of {version['model']} is {doubt}")
    if error is None and latest.state is not None and _skipped(latest):
        say(f"pipeline '{pipeline}' has a new dataset, {latest.state.decision.reason}")
    elif error is None:
        say(f"pipeline '{pipeline}' is {until}: {latest.stages[-1].text}")


def _skipped(latest: Progress) -> bool:
    return any(stage.mark is Mark.SKIPPED for stage in latest.stages)


def _ended_in_release(latest: Progress) -> bool:
    return latest.stages[-1].mark in (Mark.DONE, Mark.FAILED)


def _view(pipeline: str, until: Goal, latest: Progress, error: PipelineFailed | TimedOut | None) -> View:
    outcomes = {PipelineFailed: "failed", TimedOut: "timed_out"}
    state = latest.state
    return {
        "pipeline": pipeline,
        "until": str(until),
        "outcome": outcomes[type(error)] if error else "not_trained" if state and _skipped(latest) else "done",
        "reason": None if error is None else str(error),
        "stages": [{"name": stage.name, "state": str(stage.mark), "text": stage.text} for stage in latest.stages],
        "dataset": dataset_view(state.dataset) if state and state.HasField("dataset") else None,
        "runs": [run_view(run) for run in state.runs] if state else [],
        "version": version_view(state.version) if state and state.HasField("version") else None,
        "decision": decided_view(state.decision) if state and state.HasField("decision") else None,
        "release": release_view(state.release) if state and state.HasField("release") else None,
        "troubles": [trouble_view(trouble) for trouble in state.troubles] if state else [],
    }


@contextmanager
def _shown() -> Iterator[Callable[[list[Stage], list[str]], None]]:
    """Yield what shows progress on standard error: a table that is redrawn on a terminal, plain lines elsewhere."""
    console = stderr()
    if not console.is_terminal:
        yield _Lines().show
        return
    with Live(console=console, refresh_per_second=8) as live:

        def redraw(stages: list[Stage], troubles: list[str]) -> None:
            rows = [[stage.name, coloured(stage.mark), plain(stage.text)] for stage in stages]
            told = [f"[yellow]{plain(trouble)}[/]" for trouble in troubles]
            live.update(Group(table(["=stage", "=state", "progress"], rows), *told))

        yield redraw


class _Lines:
    """Progress as plain lines: one for each thing that changed."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._troubles: set[str] = set()

    def show(self, stages: list[Stage], troubles: list[str]) -> None:
        for trouble in troubles:
            if trouble not in self._troubles:
                self._troubles.add(trouble)
                note(trouble)
        for stage in stages:
            line = f"{stage.name:<12} {stage.mark:<8} {stage.text}"
            if stage.mark is not Mark.WAITING and self._said.get(stage.name) != line:
                self._said[stage.name] = line
                note(line)
