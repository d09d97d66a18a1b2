"""Local files that are whole or absent, whatever ends the process that writes them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".writing-"
"""Begins the name of a file that is written aside."""


def replace_file(path: Path, data: bytes, *, flushed: bool = True) -> None:
    """Write a local file whole or not at all: aside, flushed to the disk, then renamed. Raises `OSError`.

    One that is not `flushed` is whole or absent after the process has failed, but not after the machine has.
    """
    with aside_of(path, flushed=flushed) as file:
        file.write(data)


@contextmanager
def aside_of(path: Path, *, flushed: bool) -> Iterator[BinaryIO]:
    """Open a file that takes another's place once it is written whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            if flushed:
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
