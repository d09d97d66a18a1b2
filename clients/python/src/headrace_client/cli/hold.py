"""`hold`: segments that are suspected, and what becomes of them."""

from __future__ import annotations

from typing import Annotated

import typer
from headrace.events.v1.hold_pb2 import HOLD_VERDICT_ACCEPT, HOLD_VERDICT_DROP, Hold, HoldVerdict
from headrace.registry.v1 import registry_service_pb2 as messages

from headrace_client import holding
from headrace_client.addresses import find_addresses
from headrace_client.cli.durations import seconds
from headrace_client.cli.output import JsonOption, note, plain, print_json, print_parts, printable, say, table
from headrace_client.registry import RegistryClient
from headrace_client.views import View, dataset_view, short_id

app = typer.Typer(help="Segments that are suspected: list, accept, drop.", no_args_is_help=True)

PipelineArgument = Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")]
SegmentArgument = Annotated[
    str,
    typer.Argument(metavar="[SEGMENT]", help="Id of the segment, or its beginning; needed where several are held."),
]
TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait.")]


@app.command("list")
def list_held(
    pipeline: Annotated[str, typer.Argument(metavar="[PIPELINE]", help="Name of a pipeline; default: all.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List what is held or was dropped, oldest first: which figure of which field was what, and is what now."""
    with RegistryClient(find_addresses().registry) as registry:
        found = [holding.held_view(held) for held in registry.held(pipeline)]
    if as_json:
        print_json(found)
    elif not found:
        note("no segment is held" + (f" of '{pipeline}'" if pipeline else ""))
    else:
        rows = [
            [
                plain(view["pipeline"]),
                short_id(view["segment_id"]),
                plain(view["state"]),
                str(view["rows"]),
                plain("; ".join(holding.suspicion_text(each) for each in view["suspicions"])),
            ]
            for view in found
        ]
        print_parts([table(["pipeline", "=segment", "=state", ">rows", "suspected of"], rows)])


@app.command("accept")
def accept(
    pipeline: PipelineArgument,
    segment: SegmentArgument = "",
    timeout: TimeoutOption = "5m",
    as_json: JsonOption = False,
) -> None:
    """Have a held segment count from now on: a dataset is frozen with it, and trained on."""
    segment_id, state = _settle(pipeline, segment, HOLD_VERDICT_ACCEPT, timeout)
    if as_json:
        print_json(_view(pipeline, segment_id, "accepted") | {"dataset": dataset_view(state.dataset)})
        return
    say(f"segment {segment_id} counts from now on")
    say(f"dataset {state.dataset.frozen.dataset_id}")


@app.command("drop")
def drop(
    pipeline: PipelineArgument,
    segment: SegmentArgument = "",
    timeout: TimeoutOption = "5m",
    as_json: JsonOption = False,
) -> None:
    """Leave a held segment out of every dataset, for good."""
    segment_id, state = _settle(pipeline, segment, HOLD_VERDICT_DROP, timeout)
    if as_json:
        print_json(_view(pipeline, segment_id, "dropped"))
        return
    rows = sum(held.segment.rows for held in state.held if held.segment.segment_id == segment_id)
    say(f"segment {segment_id} was dropped: its {rows} rows are part of no dataset")


def _settle(
    pipeline: str, segment: str, verdict: HoldVerdict.ValueType, timeout: str
) -> tuple[str, messages.WatchPipelineResponse]:
    timeout_s = seconds(timeout)
    with RegistryClient(find_addresses().registry) as registry:
        segment_id = holding.held_id(registry, pipeline, segment)

        def asked(request_id: str) -> None:
            note(printable(f"pipeline '{pipeline}' was asked (request {request_id})"))

        wanted = Hold(segment_id=segment_id, verdict=verdict)
        return segment_id, holding.settle(registry, pipeline, wanted, timeout_s=timeout_s, on_request=asked)


def _view(pipeline: str, segment_id: str, state: str) -> View:
    return {"pipeline": pipeline, "segment_id": segment_id, "state": state}
