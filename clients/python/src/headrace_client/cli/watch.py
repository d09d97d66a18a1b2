"""`watch`: what is served on the rows of each cut, as it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import coloured, plain, stdout, table
from headrace_client.cli.tables import moment_text, number
from headrace_client.decision_views import decision_view, evaluated_view
from headrace_client.errors import NotReady, TimedOut, Unreachable
from headrace_client.registry import RegistryClient
from headrace_client.report.by_cut import most_moved, moved, quality_of
from headrace_client.views import View, short_id

CUTS: Final = 60
"""The latest cuts that are drawn."""
_FIELDS: Final = 6
_DECISIONS: Final = 8
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_LOOK_S: Final = 5.0
"""How long a state is waited for before everything is looked at again (s)."""
_AGAIN_S: Final = 1.0


def watch(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    once: Annotated[bool, typer.Option("--once", help="Show it as it is now, and end.")] = False,
) -> None:
    """Show what is served on the rows of each cut, drift of fields, decisions and versions, until interrupted."""
    with RegistryClient(find_addresses().registry) as registry:
        registry.pipeline(pipeline)
        if once or not stdout().is_terminal:
            stdout().print(_screen(registry, pipeline))
            return
        with Live(_screen(registry, pipeline), console=stdout(), refresh_per_second=4) as live:
            while True:
                _change(registry, pipeline)
                live.update(_screen(registry, pipeline))


def _change(registry: RegistryClient, pipeline: str) -> None:
    """Return once the pipeline's state changed, or after some seconds; a registry may be away for a while."""
    try:
        states = registry.watch(pipeline, timeout_s=_LOOK_S)
        next(states)
        next(states)
    except TimedOut:
        return
    except (Unreachable, NotReady):
        time.sleep(_AGAIN_S)


def _screen(registry: RegistryClient, pipeline: str) -> RenderableType:
    evaluations = [evaluated_view(each) for each in registry.evaluations(pipeline)]
    decisions = [decision_view(each) for each in registry.decisions(pipeline)]
    return Group(*_plots(evaluations[-CUTS:]), *_decided(decisions[-_DECISIONS:]), *_versions(registry, pipeline))


def _plots(evaluations: Sequence[View]) -> list[RenderableType]:
    if not evaluations:
        return ["nothing was scored on new rows yet: that begins with the first cut after a release"]
    found = [quality_of(each) for each in evaluations]
    values = [each["value"] if each else None for each in found]
    last = found[-1]
    told = f"{number(last['low'])} to {number(last['high'])}" if last else ""
    rows = [[plain(evaluations[-1]["measure"]), blocks(values), number(values[-1]), told]]
    for name in most_moved(evaluations, _FIELDS):
        drift = [moved(each).get(name) for each in evaluations]
        rows.append([f"drift of {plain(name)}", blocks(drift, low=0.0, high=0.2), number(drift[-1]), ""])
    title = f"what is served on the rows of the last {len(evaluations)} cuts"
    return [table(["measure", "=by cut", ">now", "=interval"], rows, title=title)]


def blocks(values: Sequence[float | None], low: float | None = None, high: float | None = None) -> str:
    """Return values as blocks, the newest at the right; those beyond `low` and `high` as the least or the most."""
    known = [value for value in values if value is not None] or [0.0]
    least, most = min(known) if low is None else low, max(known) if high is None else high
    span = (most - least) or 1.0
    steps = len(_BLOCKS) - 2

    def block(value: float | None) -> str:
        return " " if value is None else _BLOCKS[1 + round(min(max((value - least) / span, 0.0), 1.0) * steps)]

    return "".join(map(block, values))


def _decided(decisions: Sequence[View]) -> list[RenderableType]:
    rows = [
        [
            moment_text(each["decide_time"]),
            short_id(each["dataset_id"]),
            coloured("trained" if each["trained"] else "not trained"),
            plain(each["reason"]),
        ]
        for each in reversed(decisions)
    ]
    return [table(["=decided", "=dataset", "=decision", "why"], rows)] if rows else []


def _versions(registry: RegistryClient, pipeline: str) -> list[RenderableType]:
    releases = [each for each in registry.releases() if each.released.pipeline == pipeline]
    rows = [
        [
            plain(each.released.model),
            str(each.released.ordinal),
            plain(each.released.variant),
            plain(each.released.alias),
        ]
        for each in releases[-3:][::-1]
    ]
    return [table(["model", ">version", "variant", "alias"], rows, title="released last")] if rows else []
