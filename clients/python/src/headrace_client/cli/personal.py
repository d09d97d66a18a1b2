"""`personal`: what is stored in the place of a value, and what a token stands for."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace_client.cli.files import read_file
from headrace_client.cli.output import JsonOption, print_json, say
from headrace_client.errors import InputInvalid
from headrace_client.personal import revealed, stored

if TYPE_CHECKING:
    from headrace_data.spec import Pipeline

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="Pipeline YAML.")]
FieldArgument = Annotated[str, typer.Argument(metavar="FIELD", help="Name of the field.")]
ValueArgument = Annotated[
    str | None, typer.Argument(metavar="VALUE", help="Left out: each line of standard input, which no history keeps.")
]
KeysOption = Annotated[
    Path,
    typer.Option("--keys", metavar="FOLDER", envvar="HEADRACE_PERSONAL_KEYS_DIR", help="Folder with the key's file."),
]

app = typer.Typer(help="Personal fields: what is stored of a value, and back.", no_args_is_help=True)


@app.command("stored")
def show_stored(
    file: FileArgument, field: FieldArgument, keys: KeysOption, value: ValueArgument = None, as_json: JsonOption = False
) -> None:
    """Print what a pipeline stores in the place of a value: for a look-up of whom you know. Asks no service."""
    treated = stored(_pipeline(file), field, keys)
    _print([treated(each) for each in _values(value)], as_json=as_json)


@app.command("reveal")
def reveal(
    file: FileArgument, field: FieldArgument, keys: KeysOption, value: ValueArgument = None, as_json: JsonOption = False
) -> None:
    """Print the value that a token stands for. Asks no service: whoever has the key may."""
    made = revealed(_pipeline(file), field, keys)
    _print([made(each) for each in _values(value)], as_json=as_json)


def _pipeline(file: str) -> Pipeline:
    from headrace_data.spec import SpecInvalid, load_pipeline

    try:
        return load_pipeline(read_file(file))
    except SpecInvalid as error:
        raise InputInvalid(f"{file}: expected a valid pipeline: `headrace validate` names its problems") from error


def _values(value: str | None) -> Iterable[str]:
    if value is not None:
        return [value]
    if sys.stdin.isatty():
        raise typer.BadParameter("give a value, or send some to standard input", param_hint="VALUE")
    return [line for line in sys.stdin.read().splitlines() if line]


def _print(made: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    for each in made:
        say(each)
