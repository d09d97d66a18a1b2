"""The line in which pushed batches wait: bounded in bytes, for each pipeline by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from headrace_runtime.errors import Overloaded

LEAST_S: Final = 0.05
MOST_S: Final = 5.0
"""Between these a caller is asked to wait, in seconds."""
FIRST_S: Final = 0.25
"""The same where nothing was done yet that it could be judged by."""


@dataclass(slots=True)
class _Waiting:
    """What waits of one pipeline."""

    since: float
    """When its line was last empty, by the clock."""
    size: int = 0
    done: int = 0
    """Bytes that are done since then."""


class PushLine:
    """Counts the bytes of batches that wait or are written, by pipeline. For one thread, an event loop's."""

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most_bytes` may wait of each pipeline; a batch that is alone may be larger."""
        self._most_bytes = most_bytes
        self._clock = clock
        self._lines: dict[str, _Waiting] = {}

    @contextmanager
    def place(self, pipeline: str, size: int) -> Iterator[None]:
        """Hold a batch of `size` bytes in the line. Raises Overloaded when too much waits before it."""
        line = self._lines.get(pipeline)
        if line is None:
            line = self._lines[pipeline] = _Waiting(self._clock())
        elif line.size + size > self._most_bytes:
            raise Overloaded(
                f"{line.size} bytes of pipeline {pipeline} wait already, of at most {self._most_bytes}; "
                "send the batch again later",
                self._wait_s(line),
            )
        line.size += size
        try:
            yield
        finally:
            line.size -= size
            line.done += size
            if not line.size:
                del self._lines[pipeline]

    def _wait_s(self, line: _Waiting) -> float:
        """Return in how many seconds half of a line will be done, by what was done since it began."""
        if not line.done:
            return FIRST_S
        return min(MOST_S, max(LEAST_S, line.size / 2 * (self._clock() - line.since) / line.done))
