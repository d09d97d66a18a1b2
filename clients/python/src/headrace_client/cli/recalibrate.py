"""`recalibrate`: the variants of what is served made again, with newer rows."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, print_json, say
from headrace_client.registry import RegistryClient


def recalibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    as_json: JsonOption = False,
) -> None:
    """Make the variants of the champion again with rows of the newest dataset; nothing is trained."""
    with RegistryClient(find_addresses().registry) as registry:
        run_id = registry.recalibrate(model)
    if as_json:
        print_json({"run_id": run_id})
        return
    say(f"run {run_id} makes the variants of {model}'s champion again; `headrace get runs` shows how far it is")
