"""Files named on the command line, to read and to write; `-` is standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from headrace_client.errors import InputInvalid

STANDARD_INPUT = "-"

FormatOption = Annotated[
    str,
    typer.Option("--format", metavar="FORMAT", help="csv, jsonl, parquet or arrow; default: by the file's name."),
]
EncodingOption = Annotated[
    str,
    typer.Option("--encoding", metavar="NAME", help="What a text is written in, such as windows-1252; default: UTF-8."),
]


def read_file(name: str) -> bytes:
    """Return a file's bytes.

    A name that is no file, or a terminal where a file or a pipe is meant, is wrong usage: typer's BadParameter. Raises
    InputInvalid when the file cannot be read.
    """
    if name == STANDARD_INPUT:
        if sys.stdin.isatty():
            raise typer.BadParameter("give a file, or send it to standard input", param_hint="FILE")
        return sys.stdin.buffer.read()
    path = Path(name)
    if not path.exists():
        raise typer.BadParameter(f"there is no file '{name}'", param_hint="FILE")
    if path.is_dir():
        raise typer.BadParameter(f"'{name}' is a folder", param_hint="FILE")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputInvalid(f"{name} cannot be read: {error.strerror}") from error


def write_text(output: Path, text: str) -> None:
    """Write a file, and the folders that it lies in. Raises InputInvalid where that cannot be."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
    except OSError as error:
        raise InputInvalid(f"{output} cannot be written: {error.strerror}") from error


def require_new(output: Path | None, *, force: bool) -> None:
    """Raise InputInvalid when a file that the caller named to write to is there and may not be written over."""
    if output is not None and output.exists() and not force:
        raise InputInvalid(f"{output} is there already: give another --output, or --force to write over it")
