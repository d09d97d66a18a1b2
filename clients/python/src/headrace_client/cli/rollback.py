"""`rollback`: an earlier release again."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, print_json, say
from headrace_client.registry import RegistryClient
from headrace_client.views import release_view


def rollback(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    to: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="ORDINAL", min=1, help="A version that was released before; default: the one before."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve an earlier release again; nothing is trained anew."""
    with RegistryClient(find_addresses().registry) as registry:
        release = registry.rollback(model, to or 0)
    if as_json:
        print_json(release_view(release))
        return
    released = release.released
    say(f"{model} version {released.ordinal}, {released.variant}, is {released.alias} again (epoch {released.epoch})")
