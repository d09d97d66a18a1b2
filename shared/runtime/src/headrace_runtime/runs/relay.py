"""What a child elsewhere says, by way of the object store: its last lines, and how it ended.

Beside the child somebody copies its lines into one file of the attempt, `told.json`; whoever holds the lease reads it
at times. The file is written anew each time, with the last `KEPT` lines and the number of the first of them, so that
who reads often enough misses none, and nobody reads one twice.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import Progress, parse_line

KEPT: Final = 500
"""Lines that the file holds at most."""
_TOLD: Final = "told.json"


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int
    """Its exit code, as `runs.child` numbers it."""
    reason: str
    """Why it gave no result; empty where it gave one."""


class Telling:
    """The side beside the child: keeps its lines for who reads them."""

    def __init__(self, store: ObjectStore, output: str) -> None:
        """`output` is the prefix of the attempt's own files."""
        self._store = store
        self._name = f"{output}{_TOLD}"
        self._lines: deque[Progress] = deque(maxlen=KEPT)
        self._count = 0

    def tell(self, lines: Sequence[Progress], ended: Ended | None = None) -> None:
        """Write further lines and, last of all, how the child ended. Raises Unavailable."""
        self._lines.extend(lines)
        self._count += len(lines)
        told = {
            "first": self._count - len(self._lines),
            "lines": [asdict(line) for line in self._lines],
            "ended": ended and asdict(ended),
        }
        self._store.write(self._name, json.dumps(told, allow_nan=False, separators=(",", ":")).encode())


class Hearing:
    """The side of who holds the lease."""

    def __init__(self, store: ObjectStore, output: str) -> None:
        """`output` is the prefix of the attempt's own files."""
        self._store = store
        self._name = f"{output}{_TOLD}"
        self._heard = 0

    def hear(self) -> tuple[list[Progress], Ended | None]:
        """Return the lines since the last call, and how the child ended, None while it has not.

        Raises Unavailable, and ValueError where something else lies there.
        """
        data = self._store.read(self._name)
        if data is None:
            return [], None
        told = json.loads(data)
        try:
            first, ended = int(told["first"]), told["ended"] and Ended(**told["ended"])
            lines = [parse_line(json.dumps(line)) for line in told["lines"][max(self._heard - first, 0) :]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self._name}: expected first, lines and ended, got {told!r:.200}") from error
        self._heard = first + len(told["lines"])
        return [line for line in lines if isinstance(line, Progress)], ended
