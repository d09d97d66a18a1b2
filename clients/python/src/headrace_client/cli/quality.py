"""`quality`: how good the answers were whose labels came later."""

from __future__ import annotations

from typing import Annotated

import typer
from headrace.events.v1 import quality_pb2

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, print_json, say
from headrace_client.registry import RegistryClient
from headrace_client.rollouts import MEASURES, measure_text
from headrace_client.views import View, short_id


def quality(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    as_json: JsonOption = False,
) -> None:
    """Tell how good the answers of each version were, of which the labels came later (serve.quality)."""
    with RegistryClient(find_addresses().registry) as registry:
        found = measured_of(registry, pipeline)
    if as_json:
        print_json(found)
        return
    if not found:
        say(f"nothing is measured of pipeline {pipeline} yet: see serve.quality")
    for each in found:
        told = [f"{MEASURES[name].text(each['metrics'][name])} {name}" for name in _measured(each)]
        say(f"version {short_id(each['version_id'])}: {_counts(each)}")
        if told:
            say(f"  {', '.join(told)}")


def measured_of(registry: RegistryClient, pipeline: str) -> list[View]:
    """Return how good the answers of each version of a pipeline were."""
    return [_plain(each) for each in next(iter(registry.watch(pipeline, timeout_s=10.0))).qualities]


def quality_lines(measured: list[View]) -> list[str]:
    """Return a line for each version, with the measure that its task shows first."""
    return [
        f"version {short_id(each['version_id'])}: live {measure_text(name, each['metrics'][name])}, {_counts(each)}"
        if (name := next(iter(_measured(each)), ""))
        else f"version {short_id(each['version_id'])}: {_counts(each)}"
        for each in measured
    ] or ["live quality: no answer is measured yet"]


def _measured(each: View) -> list[str]:
    """Return the names of what was measured, that which a task shows first at the front."""
    return [name for name in MEASURES if name in each["metrics"]]


def _counts(each: View) -> str:
    return (
        f"{each['rows']} answered rows with a label; {each['awaiting_labels']} wait for theirs, "
        f"{each['unlabelled']} had none in time, {each['unmeasured']} cannot be"
    )


def _plain(each: quality_pb2.QualityMeasured) -> View:
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
