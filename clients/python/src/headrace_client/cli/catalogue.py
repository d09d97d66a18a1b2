"""`get`: what the registry has recorded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import RenderableType

from headrace_client.addresses import find_addresses
from headrace_client.cli import decisions, frontiers, tables
from headrace_client.cli.forget import forgotten
from headrace_client.cli.frontiers import measured
from headrace_client.cli.moments import moment
from headrace_client.cli.output import JsonOption, note, print_json, print_parts
from headrace_client.decision_views import decision_view, evaluated_view
from headrace_client.forgetting import proof
from headrace_client.registry import RegistryClient
from headrace_client.views import View, dataset_view, pipeline_view, release_view, run_view, version_view


class Kind(StrEnum):
    """What can be listed."""

    PIPELINES = "pipelines"
    DATASETS = "datasets"
    RUNS = "runs"
    VERSIONS = "versions"
    VARIANTS = "variants"
    RELEASES = "releases"
    FORGOTTEN = "forgotten"
    DECISIONS = "decisions"
    EVALUATIONS = "evaluations"


TABLES: dict[Kind, Callable[[list[View]], list[RenderableType]]] = {
    Kind.PIPELINES: tables.pipelines,
    Kind.DATASETS: tables.datasets,
    Kind.RUNS: tables.runs,
    Kind.VERSIONS: tables.versions,
    Kind.VARIANTS: frontiers.variants,
    Kind.RELEASES: tables.releases,
    Kind.FORGOTTEN: forgotten,
    Kind.DECISIONS: decisions.decisions,
    Kind.EVALUATIONS: decisions.evaluations,
}


def get(
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="KIND",
            help="pipelines, datasets, runs, versions, variants, releases, forgotten (keys), decisions (trained on or "
            "not, and why) or evaluations (what is served on new rows).",
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Of this pipeline, or (versions, releases) model, or (variants) either."),
    ] = "",
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Variants of this version; without it of the last one measured.")
    ] = "",
    as_of: Annotated[
        str,
        typer.Option("--as-of", metavar="TIME", help="As it was then: an ISO time, or how long ago, such as 5m."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List pipelines, datasets, runs, versions, variants, releases and what else KIND names, oldest first."""
    if version and kind is not Kind.VARIANTS:
        raise typer.BadParameter(f"expected none beside {kind}, got {version}", param_hint="VERSION")
    then = moment(as_of, "--as-of") if as_of else None
    with RegistryClient(find_addresses().registry) as registry:
        found = measured(registry, name, version, then) if kind is Kind.VARIANTS else _list(registry, kind, name, then)
    if as_json:
        print_json(found)
    elif not found:
        when = f"at {then.astimezone().isoformat(sep=' ', timespec='seconds')}" if then else "yet"
        note(f"no {kind} of '{name}' {when}" if name else f"no {kind} {when}")
    else:
        print_parts(TABLES[kind](found))


def _list(registry: RegistryClient, kind: Kind, name: str, as_of: datetime | None) -> list[View]:
    match kind:
        case Kind.PIPELINES:
            if name and as_of is None:
                return [pipeline_view(registry.pipeline(name))]
            return [pipeline_view(found) for found in registry.pipelines(name, as_of=as_of)]
        case Kind.DATASETS:
            return [dataset_view(dataset) for dataset in registry.datasets(name, as_of=as_of)]
        case Kind.RUNS:
            return [run_view(run) for run in registry.runs(name, as_of=as_of)]
        case Kind.VERSIONS:
            return [version_view(version) for version in registry.versions(name, as_of=as_of)]
        case Kind.FORGOTTEN:
            versions = registry.versions(as_of=as_of)
            return [proof(each, versions) for each in registry.forgotten(name, as_of=as_of)]
        case Kind.DECISIONS:
            return [decision_view(decision) for decision in registry.decisions(name, as_of=as_of)]
        case Kind.EVALUATIONS:
            return [evaluated_view(evaluation) for evaluation in registry.evaluations(name, as_of=as_of)]
        case _:
            return [release_view(release) for release in registry.releases(name, as_of=as_of)]
