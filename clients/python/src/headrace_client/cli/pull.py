"""`pull`: the files of a version, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import say
from headrace_client.registry import RegistryClient


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="VERSION", help="A model (its newest version), MODEL:ORDINAL, or the unique beginning of an id."
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to: a new one, or an empty one.")],
    variant: Annotated[
        str, typer.Option("--variant", metavar="NAME", help="Which variant; the released one without it.")
    ] = "",
) -> None:
    """Write a version's files into a folder: ONNX, GGUF, or an adapter as PEFT and vLLM load it, with its base."""
    # Imported here: the other commands start faster without it.
    from headrace_client.pulling import pulled

    with RegistryClient(find_addresses().registry) as registry:
        for path in pulled(registry, name, variant, folder):
            say(f"{path}  {path.stat().st_size:,} bytes")
