"""`freeze`: a dataset now."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace_client import waiting
from headrace_client.addresses import find_addresses
from headrace_client.cli.durations import seconds
from headrace_client.cli.output import JsonOption, note, print_json, say
from headrace_client.registry import RegistryClient
from headrace_client.stages import masked_text, rejected_text, unread_text
from headrace_client.views import dataset_view


def freeze(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for the dataset.")
    ] = "1m",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only ask; do not wait for the dataset.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Freeze everything clean that no dataset holds yet, whatever the freeze policy says."""
    timeout_s = seconds(timeout)
    with RegistryClient(find_addresses().registry) as registry:
        if no_wait:
            request_id = registry.freeze(pipeline)
            if as_json:
                print_json({"pipeline": pipeline, "request_id": request_id, "dataset": None})
            else:
                say(f"pipeline '{pipeline}' was asked for a dataset (request {request_id})")
            return
        dataset = waiting.freeze(
            registry,
            pipeline,
            timeout_s=timeout_s,
            on_request=lambda request_id: note(f"pipeline '{pipeline}' was asked for a dataset (request {request_id})"),
        )
    if as_json:
        print_json({"pipeline": pipeline, "request_id": dataset.frozen.request_id, "dataset": dataset_view(dataset)})
        return
    rows = dataset.frozen.rows
    splits = f"{rows.train} train, {rows.validation} validation, {rows.test} test rows"
    told = (
        splits,
        rejected_text(dataset.frozen.rejected),
        masked_text(dataset.frozen.masked),
        unread_text(dataset.frozen.unread),
    )
    say(f"dataset {dataset.frozen.dataset_id}")
    say(", ".join(filter(None, told)))
