"""`lineage`: where a thing comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli import tables
from headrace_client.cli.output import JsonOption, print_json, print_parts
from headrace_client.registry import RegistryClient
from headrace_client.views import lineage_view


def lineage(
    name: Annotated[
        str,
        typer.Argument(metavar="ID", help="Of a prediction, version, run or dataset; a unique beginning will do."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show what lies behind a prediction, version, run or dataset, back to the producers' offsets."""
    with RegistryClient(find_addresses().registry) as registry:
        found = lineage_view(registry.lineage(name))
    if as_json:
        print_json(found)
    else:
        print_parts(tables.lineage(found))
