"""Local files that are whole or absent, whatever ends the process that writes them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".writing-"
"""Begins the name of a file that is written aside."""
_WORKING = "headrace-working-"


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


@contextmanager
def working_folder() -> Iterator[Path]:
    """Make a folder for files that are done without once this process ends, however it does.

    Those of processes that were killed are removed by whoever makes the next one on the machine: each process holds a
    lock on its own, which the system gives back.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_WORKING}*"):
        with suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as held:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_WORKING))
            # Whoever looks before it is locked takes it for one that was left: it is that one's then.
            with suppress(BlockingIOError, FileNotFoundError):
                held.enter_context(_locked(folder))
                if folder.exists():
                    break
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder. Raises `OSError` where another process does."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)
