"""Files named on the command line; `-` is standard input."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from headrace_client.errors import InputInvalid

STANDARD_INPUT = "-"


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
