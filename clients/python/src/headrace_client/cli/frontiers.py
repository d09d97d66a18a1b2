"""`get variants`: what was measured of each variant of a version, and which no other outdoes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import typer
from headrace_data.tasks import BATCH_LATENCY, BATCH_P99, LATENCY, MEMORY, P99, SIZE
from rich.console import RenderableType

from headrace_client.cli.output import coloured, plain, table
from headrace_client.cli.tables import number, size_text
from headrace_client.registry import RegistryClient
from headrace_client.views import View, measured_views, pipeline_view, release_view, version_view

_TIMES: Final = ((LATENCY, P99), (BATCH_LATENCY, BATCH_P99))


def measured(registry: RegistryClient, name: str, version: str, as_of: datetime | None) -> list[View]:
    """Return the variants of a version: of the one named, or of each model the last one that was measured.

    `name` is a model, or a pipeline, whose model is meant then; `version` an ordinal, or the beginning of an id.
    """
    found = [version_view(each) for each in registry.versions(name, as_of=as_of)]
    if not found and name:
        of = [pipeline_view(each)["model"] for each in registry.pipelines(name, as_of=as_of)]
        found = [version_view(each) for model in of for each in registry.versions(model, as_of=as_of)]
    chosen = [each for each in found if _is(each, version)] if version else _newest(found)
    if version and not chosen:
        known = ", ".join(str(each["ordinal"]) for each in found) or "none"
        raise typer.BadParameter(f"expected one of {known}, got {version}", param_hint="VERSION")
    released = {each["model"]: each for each in map(release_view, registry.releases(as_of=as_of))}
    return [view for each in chosen for view in measured_views(each, released.get(each["model"]))]


def _is(version: View, named: str) -> bool:
    begins = version["version_id"].removeprefix("sha256:").startswith(named.removeprefix("sha256:"))
    return str(version["ordinal"]) == named or (len(named) > 3 and begins)


def _newest(versions: Sequence[View]) -> list[View]:
    return list({each["model"]: each for each in versions if each["variants"]}.values())


def variants(found: list[View]) -> list[RenderableType]:
    """Show variants, each with its costs and its quality, by version."""
    parts: list[RenderableType] = []
    for place in dict.fromkeys(map(_place, found)):
        of = [view for view in found if _place(view) == place]
        first = of[0]
        title = f"variants of {plain(first['model'])} version {first['ordinal']}, measured on {plain(_class(first))}"
        columns = ["variant", ">size", ">memory", ">ms, 1 row", ">ms, 32", f">{first['measure']}", "=standing"]
        rows = [[plain(view["variant"]), *_figures(view), _standing(view)] for view in of]
        parts.append(table(columns, rows, title=title))
    return [*parts, "times are medians / 99th percentiles of one run"] if parts else []


def _place(view: View) -> tuple[str, str]:
    return view["version_id"], _class(view)


def _class(view: View) -> str:
    return view["cpu_class"] or "an unknown class of processors"


def _figures(view: View) -> list[str]:
    metrics = view["metrics"]
    sizes = [size_text(metrics.get(name)) for name in (SIZE, MEMORY)]
    times = ["/".join(number(metrics.get(name), 3) for name in pair) for pair in _TIMES]
    return [*sizes, *times, number(metrics.get(view["measure"]))]


def _standing(view: View) -> str:
    """Return what a variant is there for: its place among those served, or why it is none of them."""
    if view["served"]:
        return f"[green]served {view['served']}[/]"
    if view["passed"] is None:
        return "not judged"
    if not view["passed"]:
        return coloured("failed")
    return "frontier" if view["on_frontier"] else "outdone"
