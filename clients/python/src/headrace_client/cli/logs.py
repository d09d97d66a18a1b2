"""Reading log files: their last lines, and what is appended to them, across rotation."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from headrace_client.cli.output import printable

POLL_S = 0.2


Form = Callable[[str, str], str]
"""Returns what is printed for a service's name and a line of its log."""


def plain_line(paths: Sequence[Path], *, named: bool) -> Form:
    """Return the form for people: the line in plain words, behind the service's name when there are several."""
    width = max((len(path.stem) for path in paths), default=0)

    def form(service: str, line: str) -> str:
        # What a service quotes from a record may mean to steer the terminal; Java's traces are full of tabs.
        shown = printable(_told(line).expandtabs())
        return f"{service:<{width}} | {shown}" if named else shown

    return form


def _told(line: str) -> str:
    """Return a service's JSON as time, level and message, an exception below; any other line as it is."""
    entry = _entry(line)
    if entry is None or not {"time", "level", "message"} <= entry.keys():
        return line
    time_of_day = str(entry["time"]).replace("T", " ")
    below = f"\n{entry['exception']}" if "exception" in entry else ""
    return f"{time_of_day} {entry['level']:<7} {entry['message']}{below}"


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def json_line(service: str, line: str) -> str:
    """Return the form for programs: the service's own JSON with its name; a line of plain text becomes the message."""
    return json.dumps({"service": service, **(_entry(line) or {"message": line})})


def show(paths: Sequence[Path], *, lines: int, follow: bool, form: Form) -> None:
    """Print the last lines of each file, and with follow whatever comes until the user stops it."""
    tails = [Tail(path, form) for path in paths]
    for tail in tails:
        write(tail.last(lines))
    while follow:
        written = [write(tail.more()) for tail in tails]
        if not any(written):
            time.sleep(POLL_S)


def write(lines: Sequence[str]) -> bool:
    """Print lines and return whether there was one."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    return bool(lines)


class Tail:
    """One log file that grows, and starts anew when it is rotated."""

    def __init__(self, path: Path, form: Form = lambda _, line: line) -> None:
        self._path = path
        self._form = form
        self._position = 0
        self._inode = 0
        self._rest = b""

    def last(self, count: int) -> list[str]:
        """Return the last lines; later calls of more go on behind them."""
        kept: deque[str] = deque(maxlen=count)
        kept.extend(self.more())
        return list(kept)

    def more(self) -> list[str]:
        """Return the complete lines that were appended since the last call."""
        try:
            with self._path.open("rb") as handle:
                self._find_place(handle)
                chunk = handle.read()
                self._position = handle.tell()
        except FileNotFoundError:
            return []
        *complete, self._rest = (self._rest + chunk).split(b"\n")
        return [self._form(self._path.stem, line.decode(errors="replace")) for line in complete]

    def _find_place(self, handle: BinaryIO) -> None:
        inode = self._path.stat().st_ino
        if inode != self._inode or handle.seek(0, 2) < self._position:
            self._inode, self._position, self._rest = inode, 0, b""
        handle.seek(self._position)
