"""`backfill`: history into a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from headrace.events.v1.backfill_pb2 import Backfill, Backfilled, BackfillTopic
from headrace.registry.v1.registry_service_pb2 import Dataset

from headrace_client import waiting
from headrace_client.addresses import find_addresses
from headrace_client.cli.durations import seconds
from headrace_client.cli.files import EncodingOption
from headrace_client.cli.moments import moment
from headrace_client.cli.output import JsonOption, note, print_json, printable, say
from headrace_client.errors import InputInvalid
from headrace_client.registry import RegistryClient
from headrace_client.stages import rejected_text
from headrace_client.views import dataset_view

FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE…", help="CSV, JSON Lines, Parquet or Arrow files, the oldest first.", exists=True, dir_okay=False
    ),
]
TopicOption = Annotated[str, typer.Option("--topic", metavar="TOPIC", help="A topic to read, in place of files.")]
FromOption = Annotated[
    str,
    typer.Option("--from", metavar="TIME", help="Of a topic: leave out records before, such as 2026-05-01 or 90d."),
]
ToOption = Annotated[
    str, typer.Option("--to", metavar="TIME", help="Of a topic: leave out records from then on; default: now.")
]
TimeOption = Annotated[
    str, typer.Option("--time", metavar="NAME", help="Column with the event time; default: what stream.time names.")
]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="csv, jsonl, parquet or arrow; default: by the files' names.")
]
TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for the dataset.")]


def backfill(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    files: FilesArgument = None,
    topic: TopicOption = "",
    start: FromOption = "",
    end: ToOption = "",
    time: TimeOption = "",
    file_format: FormatOption = "",
    encoding: EncodingOption = "",
    timeout: TimeoutOption = "30m",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only ask; do not wait for the dataset.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring history into a pipeline, before all that it has: checked and cleaned like its records, each file once."""
    timeout_s = seconds(timeout)
    wanted = Backfill(topic=_range(topic, start, end), time=time)
    if bool(files) == bool(topic):
        raise typer.BadParameter(f"give files or --topic, {'not both' if files else 'one of them'}", param_hint="FILE…")
    if files:
        from headrace_client.backfilling import kept

        _require_no_personal_fields(pipeline)
        wanted.files.extend(
            kept(files, file_format or None, lambda path: note(f"keeping {printable(path.name)}"), encoding)
        )
    with RegistryClient(find_addresses().registry) as registry:
        before = {each.frozen.dataset_id for each in registry.datasets(pipeline)}
        if no_wait:
            _say_request(pipeline, registry.freeze(pipeline, wanted), as_json=as_json)
            return

        def asked(request_id: str) -> None:
            note(f"pipeline '{pipeline}' was asked for a backfill (request {request_id})")

        dataset = waiting.freeze(registry, pipeline, timeout_s=timeout_s, backfill=wanted, on_request=asked)
    if as_json:
        _print_json(pipeline, dataset)
    else:
        _say(pipeline, dataset, is_new=dataset.frozen.dataset_id not in before)


def _require_no_personal_fields(pipeline: str) -> None:
    """Raise InputInvalid where a file would lie in the object store as it is, and nothing personal may."""
    with RegistryClient(find_addresses().registry) as registry:
        found = registry.pipelines(pipeline)
    if found and json.loads(found[0].spec.json)["stream"].get("personal"):
        raise InputInvalid(
            f"pipeline '{pipeline}' has personal fields, and the object store would keep a file as it is: send its "
            "rows to a topic, and give --topic"
        )


def _say_request(pipeline: str, request_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"pipeline": pipeline, "request_id": request_id, "backfilled": None, "dataset": None})
    else:
        say(f"pipeline '{pipeline}' was asked for a backfill (request {request_id})")


def _range(topic: str, start: str, end: str) -> BackfillTopic | None:
    if not topic:
        if start or end:
            raise typer.BadParameter(
                "expected a --topic, whose records have such times, got files", param_hint="--from"
            )
        return None
    found = BackfillTopic(topic=topic)
    if start:
        found.start_time.FromDatetime(moment(start, "--from"))
    if end:
        found.end_time.FromDatetime(moment(end, "--to"))
    return found


def _print_json(pipeline: str, dataset: Dataset) -> None:
    told = dataset.frozen.backfilled
    counts = {
        "rows": told.rows,
        "known": told.known,
        "rejected": dict(sorted(told.rejected.items())),
        "faults": list(told.faults),
    }
    request_id = dataset.frozen.request_id
    print_json({"pipeline": pipeline, "request_id": request_id, "backfilled": counts, "dataset": dataset_view(dataset)})


def _say(pipeline: str, dataset: Dataset, *, is_new: bool) -> None:
    told: Backfilled = dataset.frozen.backfilled
    say(f"{told.rows} rows are new, {told.known} were there already")
    if told.rejected:
        say(f"{rejected_text(told.rejected)}: `headrace dead list {pipeline} --where stage=backfill` shows them")
        for fault in told.faults:
            say(f"  {printable(fault)}")
    rows = dataset.frozen.rows
    say(f"dataset {dataset.frozen.dataset_id}" + ("" if is_new else " as before: its window takes no row that is new"))
    say(f"{rows.train} train, {rows.validation} validation, {rows.test} test rows")
