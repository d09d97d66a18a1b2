"""`prove`: what a prediction comes from, in one file that is checked without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import say
from headrace_client.cli.where import place_of
from headrace_client.registry import RegistryClient


def prove(
    prediction: Annotated[
        str, typer.Argument(metavar="PREDICTION", help="Id of the prediction; a unique beginning will do.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")],
    rows: Annotated[
        list[str] | None,
        typer.Option(
            "--rows",
            metavar="TOPIC:PARTITION:OFFSET",
            help="A record whose row is proved to be in the dataset; may be given several times.",
        ),
    ] = None,
) -> None:
    """Write what a prediction comes from into one file, which clients/python/check_proof.py checks offline."""
    places = [place_of(each) for each in rows or ()]
    with RegistryClient(find_addresses().registry) as registry:
        proof = registry.prove(prediction, places)
    output.write_bytes(proof)
    say(f"{output}  {len(proof):,} bytes: check it with `python check_proof.py {output}`")
