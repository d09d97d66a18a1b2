"""`where`: what became of one record."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli import tables
from headrace_client.cli.output import JsonOption, print_json, print_parts
from headrace_client.registry import RegistryClient
from headrace_client.views import fate_view

_PLACE = re.compile(r"(.{1,255}):(\d{1,9}):(\d{1,18})")


def place_of(place: str) -> tuple[str, int, int]:
    """Return topic, partition and offset of a record. Raises BadParameter."""
    parts = _PLACE.fullmatch(place)
    if parts is None:
        raise typer.BadParameter(f"expected TOPIC:PARTITION:OFFSET such as scans:0:17, got '{place}'")
    return parts[1], int(parts[2]), int(parts[3])


def where(
    place: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC:PARTITION:OFFSET",
            help="Where the producer's message lies, as in scans:0:17; of a file that was backfilled, its name, 0 and "
            "the row from 0, as in old.csv:0:17.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show what became of a record: rejected and why, in which dataset and split, or still waiting."""
    named = place_of(place)
    with RegistryClient(find_addresses().registry) as registry:
        fates = registry.record_fates(*named)
    found = [fate_view(fate) for fate in fates]
    if as_json:
        print_json(found)
    else:
        print_parts(tables.fates(found))
