"""`get`: what the registry has recorded."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import RenderableType

from headrace_client.addresses import find_addresses
from headrace_client.cli import tables
from headrace_client.cli.output import JsonOption, note, print_json, print_parts
from headrace_client.registry import RegistryClient
from headrace_client.views import View, dataset_view, pipeline_view, release_view, run_view, version_view


class Kind(StrEnum):
    """What can be listed."""

    PIPELINES = "pipelines"
    DATASETS = "datasets"
    RUNS = "runs"
    VERSIONS = "versions"
    RELEASES = "releases"


TABLES: dict[Kind, Callable[[list[View]], list[RenderableType]]] = {
    Kind.PIPELINES: tables.pipelines,
    Kind.DATASETS: tables.datasets,
    Kind.RUNS: tables.runs,
    Kind.VERSIONS: tables.versions,
    Kind.RELEASES: tables.releases,
}


def get(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="pipelines, datasets, runs, versions or releases.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of this pipeline, or (versions, releases) of this model.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List pipelines, datasets, runs, versions or releases, oldest first."""
    with RegistryClient(find_addresses().registry) as registry:
        found = _list(registry, kind, name)
    if as_json:
        print_json(found)
    elif not found:
        note(f"no {kind} of '{name}' yet" if name else f"no {kind} yet")
    else:
        print_parts(TABLES[kind](found))


def _list(registry: RegistryClient, kind: Kind, name: str) -> list[View]:
    match kind:
        case Kind.PIPELINES:
            return [pipeline_view(found) for found in ([registry.pipeline(name)] if name else registry.pipelines())]
        case Kind.DATASETS:
            return [dataset_view(dataset) for dataset in registry.datasets(name)]
        case Kind.RUNS:
            return [run_view(run) for run in registry.runs(name)]
        case Kind.VERSIONS:
            return [version_view(version) for version in registry.versions(name)]
        case Kind.RELEASES:
            return [release_view(release) for release in registry.releases(name)]
