"""`quality`: how good the answers were whose labels came later."""

from __future__ import annotations

from typing import Annotated

import typer
from headrace.events.v1 import quality_pb2
from headrace_data.tasks import TASKS

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, print_json, say
from headrace_client.registry import RegistryClient
from headrace_client.views import short_id

_MEASURES = {name: measure for task in TASKS.values() for name, measure in task.measures.items()}


def quality(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    as_json: JsonOption = False,
) -> None:
    """Tell how good the answers of each version were, of which the labels came later (serve.quality)."""
    with RegistryClient(find_addresses().registry) as registry:
        found = list(next(iter(registry.watch(pipeline, timeout_s=10.0))).qualities)
    if as_json:
        print_json([_plain(each) for each in found])
        return
    if not found:
        say(f"nothing is measured of pipeline {pipeline} yet: see serve.quality")
    for each in found:
        told = [_MEASURES[name].text(value) + f" {name}" for name, value in each.metrics.items() if name in _MEASURES]
        counts = (
            f"{each.awaiting_labels} wait for theirs, {each.unlabelled} had none in time, {each.unmeasured} cannot be"
        )
        say(f"version {short_id(each.version_id)}: {each.rows} answered rows with a label; {counts}")
        if told:
            say(f"  {', '.join(told)}")


def _plain(each: quality_pb2.QualityMeasured) -> dict[str, object]:
    return {
        "model": each.model,
        "version_id": each.version_id,
        "rows": each.rows,
        "metrics": dict(each.metrics),
        "awaiting_labels": each.awaiting_labels,
        "unlabelled": each.unlabelled,
        "unmeasured": each.unmeasured,
        "since_time": each.since_time.ToJsonString(),
    }
