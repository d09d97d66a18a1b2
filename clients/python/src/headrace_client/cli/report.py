"""`report`: a dataset or a version as one HTML page."""

from __future__ import annotations

import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.files import require_new
from headrace_client.cli.output import note, say
from headrace_client.errors import InputInvalid
from headrace_client.ingestion import IngestionClient
from headrace_client.registry import RegistryClient
from headrace_client.views import short_id

if TYPE_CHECKING:
    from headrace_client.report.facts import DatasetFacts, VersionFacts


_INGESTION_S: Final = 30.0
"""Longest wait for dead letters, without which a page is written all the same."""


def report(
    name: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|VERSION",
            help="A model (its newest version), MODEL:ORDINAL, or the unique beginning of a version's or dataset's id.",
        ),
    ],
    dataset: Annotated[
        bool, typer.Option("--dataset", help="Of the dataset behind it instead of the version.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; named after it without one.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a page with plots: columns, gaps and splits of a dataset; curves, answers and variants of a version."""
    require_new(output, force=force)
    # Imported here: the other commands start faster without them.
    from headrace_client.report.dataset_page import dataset_page
    from headrace_client.report.facts import DatasetFacts
    from headrace_client.report.sources import find
    from headrace_client.report.version_page import version_page

    with RegistryClient(find_addresses().registry) as registry:
        facts = find(registry, name, dataset=dataset)
    text = dataset_page(_with_letters(facts)) if isinstance(facts, DatasetFacts) else version_page(facts)
    path = output or Path(_file_name(facts))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputInvalid(f"{path} cannot be written: {error.strerror}") from error
    say(f"wrote {path} ({len(text.encode()) / 1024:.0f} KiB): it loads nothing, so it can be kept and sent")
    if open_ and not webbrowser.open(path.absolute().as_uri()):
        note("there is no browser to open it with")


def _with_letters(facts: DatasetFacts) -> DatasetFacts:
    from headrace_client.report.by_column import letters_of

    with IngestionClient(find_addresses().ingestion, timeout_s=_INGESTION_S) as ingestion:
        return replace(facts, letters=letters_of(ingestion, facts.manifest))


def _file_name(facts: DatasetFacts | VersionFacts) -> str:
    from headrace_client.report.facts import DatasetFacts

    if isinstance(facts, DatasetFacts):
        return f"{facts.manifest.pipeline}-dataset-{short_id(facts.manifest.dataset_id)}.html"
    return f"{facts.version['model']}-{facts.version['ordinal']}.html"
