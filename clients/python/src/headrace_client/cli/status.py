"""`status`: which services run, how far consumers are behind, what is served."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import typer
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from rich.console import RenderableType

from headrace_client.addresses import find_addresses
from headrace_client.cli.group import FAILED, TROUBLED
from headrace_client.cli.local import embedded_platform
from headrace_client.cli.output import JsonOption, coloured, error_line, plain, print_json, print_parts, say, table
from headrace_client.cli.quality import measured_of, quality_lines
from headrace_client.decision_views import decision_view
from headrace_client.errors import (
    HeadraceClientError,
    LocalMissing,
    NotFound,
    NotReady,
    PlatformFailed,
    TimedOut,
    Unreachable,
)
from headrace_client.inference import InferenceClient
from headrace_client.registry import RegistryClient
from headrace_client.rollouts import rollout_view
from headrace_client.stages import duration_text
from headrace_client.views import View, lag_view, trouble_text, trouble_view

LANE = "python"
"""The lane that serves requests and reads records."""

REGISTRY, INFERENCE = "model-registry", "inference"
RUNNING, NOT_READY, FAILING, UNREACHABLE = "running", "not ready", "failing", "unreachable"
PROBE_TIMEOUT_S = 10.0


@dataclass
class Status:
    """What was found; `problems` are sentences, and there is none when all is well."""

    services: dict[str, View] = field(default_factory=dict)
    lags: list[View] = field(default_factory=list)
    troubles: list[View] = field(default_factory=list)
    models: list[View] = field(default_factory=list)
    rollouts: list[View] = field(default_factory=list)
    """Those under way."""
    decisions: dict[str, View] = field(default_factory=dict)
    """What was decided last, by pipeline."""
    qualities: dict[str, list[View]] = field(default_factory=dict)
    """How good answers were whose labels came later, by version, of each pipeline that has this measured."""
    scoring: list[View] = field(default_factory=list)
    """Which topics have their records answered on which."""
    problems: list[str] = field(default_factory=list)

    @property
    def in_trouble(self) -> list[str]:
        """The pipelines of which a part does not work; a trouble about one subject is over, such as a loss."""
        return sorted({trouble["pipeline"] for trouble in self.troubles if not trouble["subject"]})


def status(as_json: JsonOption = False) -> None:
    """Show services, consumer lag, the lane and the versions served.

    Ends with 1 when something is down, with 3 when all runs and a part of a pipeline does not work. What was lost once,
    such as records that were deleted unread, is told and changes no exit code.
    """
    found = collect()
    if as_json:
        print_json(
            {
                "services": list(found.services.values()),
                "lags": found.lags,
                "troubles": found.troubles,
                "lane": LANE,
                "models": found.models,
                "rollouts": found.rollouts,
                "decisions": list(found.decisions.values()),
                "qualities": found.qualities,
                "scoring": found.scoring,
                "problems": found.problems,
            }
        )
    else:
        _print(found)
        for problem in found.problems:
            error_line(problem)
    if found.problems:
        raise typer.Exit(FAILED)
    if found.in_trouble:
        raise typer.Exit(TROUBLED)


def collect() -> Status:
    """Ask the embedded platform, the registry and inference; what does not answer becomes a problem."""
    addresses = find_addresses()
    found = Status(services={row["name"]: row for row in _processes()})
    with (
        RegistryClient(addresses.registry, timeout_s=PROBE_TIMEOUT_S) as registry,
        InferenceClient(addresses.inference, timeout_s=PROBE_TIMEOUT_S, patience_s=0.0) as inference,
    ):
        _probe(found, REGISTRY, registry.address, lambda: registry.pipelines() is not None)
        _probe(found, INFERENCE, inference.address, inference.ready)
        for row in found.services.values():
            if row["state"] not in (RUNNING, UNREACHABLE, FAILING, NOT_READY):
                found.problems.append(f"{row['name']} is {row['state']}: `headrace logs {row['name']}` tells more")
        if found.services[REGISTRY]["state"] == RUNNING:
            try:
                _lags_and_models(found, registry, inference)
            except HeadraceClientError as error:
                found.problems.append(str(error))
    return found


def _processes() -> list[View]:
    """Return the embedded platform's processes; none when it does not run here or is not installed."""
    try:
        with embedded_platform() as platform:
            return [_row(item.name, item.state, item.uptime_s, item.resident_bytes) for item in platform.status()]
    except (LocalMissing, PlatformFailed):
        return []


def _row(name: str, state: str, uptime_s: float | None = None, resident_bytes: int | None = None) -> View:
    return {"name": name, "state": state, "address": None, "uptime_s": uptime_s, "resident_bytes": resident_bytes}


def _probe(found: Status, name: str, address: str, ready: Callable[[], bool]) -> None:
    row = found.services.setdefault(name, _row(name, RUNNING))
    row["address"] = address
    if row["state"] != RUNNING:
        return
    try:
        if not ready():
            raise NotReady(f"{name} at {address} is not ready", "UNAVAILABLE")
    except HeadraceClientError as error:
        by_error = {Unreachable: UNREACHABLE, TimedOut: UNREACHABLE, NotReady: NOT_READY}
        row["state"] = by_error.get(type(error), FAILING)
        found.problems.append(str(error))


def _lags_and_models(found: Status, registry: RegistryClient, inference: InferenceClient) -> None:
    found.lags = [lag_view(lag) for lag in registry.lags()]
    found.decisions = {each.decided.pipeline: decision_view(each) for each in registry.decisions()}
    found.troubles = [trouble_view(trouble) for trouble in registry.troubles()]
    found.rollouts = [rollout_view(each) for each in registry.rollouts() if not each.HasField("end_time")]
    pipelines = registry.pipelines()
    found.qualities = {
        applied.pipeline: measured_of(registry, applied.pipeline)
        for applied in pipelines
        if json.loads(applied.spec.json).get("serve", {}).get("quality")
    }
    found.scoring = [view for applied in pipelines if (view := _scoring(applied))]
    if found.services[INFERENCE]["state"] in (RUNNING, NOT_READY):
        models = dict.fromkeys(release.released.model for release in registry.releases())
        found.models = [_model(inference, model) for model in models]


def _model(inference: InferenceClient, model: str) -> View:
    try:
        metadata, keeps = inference.metadata(model), inference.keeps_answers(model)
    except (NotFound, NotReady):
        return {"model": model, "versions": [], "platform": None, "keeps_answers": None}
    versions = list(metadata.versions)
    return {"model": model, "versions": versions, "platform": metadata.platform, "keeps_answers": keeps}


def _scoring(applied: PipelineApplied) -> View | None:
    """Return which topic of a pipeline has its records answered, and where; None where none has."""
    spec = json.loads(applied.spec.json)
    if (scoring := spec.get("serve", {}).get("scoring")) is None:
        return None
    own = f"{applied.pipeline}.{applied.incarnation}" if applied.incarnation else applied.pipeline
    return {
        "pipeline": applied.pipeline,
        "topic": scoring.get("topic") or spec["stream"]["topic"],
        "start": scoring.get("start"),
        "answers": f"headrace.records.{own}.scored.v1",
    }


def _print(found: Status) -> None:
    rows = [
        [
            plain(row["name"]),
            coloured(row["state"]),
            plain(row["address"] or ""),
            "" if row["uptime_s"] is None else duration_text(row["uptime_s"]),
            "" if row["resident_bytes"] is None else f"{row['resident_bytes'] / 1e6:.0f} MB",
        ]
        for row in found.services.values()
    ]
    parts: list[RenderableType] = [table(["=service", "=state", "address", ">up for", ">memory"], rows)]
    parts += [*_lag_parts(found), *_pipeline_parts(found)]
    print_parts([*parts, f"lane: {LANE}"])
    for model in found.models:
        versions = ", ".join(model["versions"])
        kept = {True: ", hot predictions kept", False: ", hot predictions not kept"}.get(model["keeps_answers"], "")
        say(f"model {model['model']}: {f'version {versions} served{kept}' if versions else 'released, not served yet'}")


def _lag_parts(found: Status) -> list[RenderableType]:
    parts: list[RenderableType] = []
    behind = [lag for lag in found.lags if lag["messages"]]
    if behind:
        lag_rows = [[plain(lag["group"]), plain(lag["topic"]), str(lag["messages"])] for lag in behind]
        parts.append(table(["consumer group", "topic", ">behind"], lag_rows))
        parts.append("[dim]The marker that ends a Kafka transaction counts: one a partition is no backlog.[/]")
        if any(lag["group"].startswith("freeze.") for lag in behind):
            parts.append("[dim]freeze.PIPELINE moves on with each dataset: what came since the last is no backlog.[/]")
    elif found.lags:
        parts.append("no consumer group is behind")
    for lag in found.lags:
        if lag["suspected"]:
            parts.append(
                f"[yellow]{plain(lag['group'])}: processes died in {lag['suspected']} partitions of "
                f"{plain(lag['topic'])}, whose messages are tried one by one[/]"
            )
    return parts


def _pipeline_parts(found: Status) -> list[RenderableType]:
    """Return what is wrong with pipelines, how their candidates and answers do, and what was decided."""
    parts: list[RenderableType] = [f"[yellow]{plain(trouble_text(trouble))}[/]" for trouble in found.troubles]
    if found.in_trouble:
        parts.append(f"[yellow]pipelines that need a hand: {plain(', '.join(found.in_trouble))}[/]")
    parts += [plain(f"{each['model']}: {each['text']}") for each in found.rollouts]
    told = "pipeline {pipeline}: records of {topic} are answered on {answers}"
    parts += [plain(told.format(**each)) for each in found.scoring]
    parts += [
        f"pipeline {plain(pipeline)}: {plain(line)}"
        for pipeline, measured in found.qualities.items()
        for line in quality_lines(measured)
    ]
    return parts + [
        f"pipeline {plain(pipeline)}: the newest dataset is {plain(decision['reason'])}"
        for pipeline, decision in found.decisions.items()
    ]
