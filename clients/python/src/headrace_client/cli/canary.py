"""`canary`: a version held against another on rows of the past, before any alias moves."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer
from headrace.events.v1.canary_pb2 import CANARY_VERDICT_WORSE, CanaryFigure, CanaryVerdict
from headrace.registry.v1 import registry_service_pb2 as messages
from rich.console import RenderableType

from headrace_client.addresses import find_addresses
from headrace_client.cli.durations import seconds
from headrace_client.cli.group import FAILED
from headrace_client.cli.output import JsonOption, note, plain, print_json, print_parts, table
from headrace_client.errors import PipelineFailed, TimedOut
from headrace_client.registry import RegistryClient
from headrace_client.views import View

LOOK_EVERY_S = 0.5


def canary(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="An ordinal, an alias or the beginning of a digest.")
    ],
    last: Annotated[
        str, typer.Option("--last", metavar="DURATION", help="How far rows go back from the pipeline's latest one.")
    ] = "24h",
    against: Annotated[
        str, typer.Option("--against", metavar="VERSION", help="The version that it is held against.")
    ] = "champion",
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait.")] = "10m",
    as_json: JsonOption = False,
) -> None:
    """Score a version and the champion on the rows of the last day, and say which is better; no alias moves.

    Ends with 1 when the version is worse.
    """
    last_s, timeout_s = max(1, round(seconds(last))), seconds(timeout)
    with RegistryClient(find_addresses().registry) as registry:
        run_id = registry.try_canary(model, version, last_s=last_s, against=against)
        note(f"run {run_id} holds version {version} of {model} against {against} on the rows of the last {last}")
        found = _result(registry, model, run_id, time.monotonic() + timeout_s)
    if as_json:
        print_json(canary_view(found))
    else:
        print_parts(tables(found))
    if found.judged.verdict == CANARY_VERDICT_WORSE:
        raise typer.Exit(FAILED)


def _result(registry: RegistryClient, model: str, run_id: str, until_s: float) -> messages.Canary:
    """Return what came of a run, once it has ended. Raises PipelineFailed with the reason, TimedOut."""
    while True:
        found = [each for each in registry.canaries(model) if each.judged.run_id == run_id]
        if found:
            return found[-1]
        run = next((each for each in registry.runs() if each.run_id == run_id), None)
        if run is not None and run.state == messages.RUN_STATE_FAILED:
            raise PipelineFailed(f"run {run_id} failed: {run.reason}")
        if time.monotonic() > until_s:
            raise TimedOut(f"run {run_id} has not ended in time; `headrace get runs` shows how far it is")
        time.sleep(LOOK_EVERY_S)


def canary_view(found: messages.Canary) -> View:
    """Return how a version does beside another."""
    judged = found.judged
    return {
        "run_id": judged.run_id,
        "pipeline": judged.pipeline,
        "model": found.model,
        "version_id": judged.version_id,
        "ordinal": found.ordinal,
        "champion_id": judged.champion_id,
        "champion_ordinal": found.champion_ordinal,
        "verdict": _verdict(found),
        "measure": judged.measure,
        "rows": judged.rows,
        "unseen_rows": judged.unseen_rows,
        "segments": judged.segments,
        "since": _moment(judged.since_us).isoformat(),
        "until": _moment(judged.until_us).isoformat(),
        "measures": [_figure(each) for each in judged.measures],
        "slices": [_figure(each) for each in judged.slices],
        "alike": dict(sorted(judged.alike.items())),
        "certainty": judged.certainty,
        "end_time": found.end_time.ToJsonString(),
    }


def tables(found: messages.Canary) -> list[RenderableType]:
    """Show how a version does beside another, and where it loses most."""
    judged = found.judged
    columns = ["measure", ">rows", f">{found.ordinal}", f">{found.champion_ordinal}", ">difference"]
    parts: list[RenderableType] = [table(columns, _rows(judged.measures))]
    if judged.slices:
        parts.append(table(["slice", *columns[1:]], _rows(judged.slices)))
    if judged.alike:
        parts.append(plain(", ".join(f"{name} {value:.4f}" for name, value in sorted(judged.alike.items()))))
    span = " to ".join(f"{_moment(each).astimezone():%Y-%m-%d %H:%M}" for each in (judged.since_us, judged.until_us))
    parts.append(
        plain(
            f"{judged.rows} rows of {judged.segments} segments, {span}: {judged.unseen_rows} after all that was "
            "learned from, the others of the test split"
        )
    )
    told = {"better": "better than", "worse": "worse than", "alike": "as good as"}[_verdict(found)]
    parts.append(
        plain(
            f"{found.model} version {found.ordinal} is {told} version {found.champion_ordinal} by {judged.measure}, "
            f"with {judged.certainty:.0%} certainty"
        )
    )
    return parts


def _rows(figures: Iterable[CanaryFigure]) -> list[list[str]]:
    return [
        [
            plain(each.name.removeprefix("slice/")),
            str(each.rows),
            f"{each.candidate:.4f}",
            f"{each.champion:.4f}",
            f"{each.candidate - each.champion:+.4f} ({each.low:+.4f} to {each.high:+.4f})",
        ]
        for each in figures
    ]


def _figure(figure: CanaryFigure) -> View:
    return {name: getattr(figure, name) for name in ("name", "rows", "candidate", "champion", "low", "high")}


def _verdict(found: messages.Canary) -> str:
    return CanaryVerdict.Name(found.judged.verdict).removeprefix("CANARY_VERDICT_").lower()


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)
