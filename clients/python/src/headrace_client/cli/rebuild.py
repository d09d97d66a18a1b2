"""`rebuild`: segments made again by the rules in force."""

from __future__ import annotations

from typing import Annotated

import typer
from headrace.events.v1.backfill_pb2 import Backfill, Backfilled, BackfillTopic

from headrace_client import waiting
from headrace_client.addresses import find_addresses
from headrace_client.cli.durations import seconds
from headrace_client.cli.moments import moment
from headrace_client.cli.output import JsonOption, note, print_json, printable, say
from headrace_client.errors import NotFound
from headrace_client.registry import RegistryClient
from headrace_client.stages import rejected_text
from headrace_client.views import View, dataset_view, pipeline_view


def rebuild(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Of segments with rows of then or later, such as 30d.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Of segments with rows before; default: all.")] = "",
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait.")] = "30m",
    as_json: JsonOption = False,
) -> None:
    """Make segments again of what the log still has, by the rules in force, in their places of the history."""
    timeout_s = seconds(timeout)
    wanted = BackfillTopic()
    wanted.start_time.FromDatetime(moment(start, "--from"))
    if end:
        wanted.end_time.FromDatetime(moment(end, "--to"))
    with RegistryClient(find_addresses().registry) as registry:
        applied = registry.pipelines(pipeline)
        if not applied:
            raise NotFound(f"there is no pipeline '{pipeline}': `headrace get pipelines` lists them")
        wanted.topic = pipeline_view(applied[0])["topic"]

        def asked(request_id: str) -> None:
            note(f"pipeline '{pipeline}' was asked for a rebuild (request {request_id})")

        request = Backfill(topic=wanted, rebuild=True)
        dataset = waiting.freeze(registry, pipeline, timeout_s=timeout_s, backfill=request, on_request=asked)
    if as_json:
        print_json({"pipeline": pipeline, **_counts(dataset.frozen.backfilled), "dataset": dataset_view(dataset)})
    else:
        _say(dataset.frozen.backfilled, dataset.frozen.dataset_id)


def _counts(told: Backfilled) -> View:
    return {
        "rows": told.rows,
        "known": told.known,
        "rejected": dict(sorted(told.rejected.items())),
        "faults": list(told.faults),
    }


def _say(told: Backfilled, dataset_id: str) -> None:
    say(f"{told.rows} rows are in segments that are other ones now, {told.known} in segments that came out as before")
    if told.rejected:
        say(rejected_text(told.rejected))
    for fault in told.faults:
        say(printable(fault))
    say(f"dataset {dataset_id}")
