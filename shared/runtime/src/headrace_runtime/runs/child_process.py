"""The worker's side of a child: a process that does one run, and one that waits for the next run."""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from headrace_runtime.runs.child import Failure, Progress, hand_over, parse_line
from headrace_runtime.telemetry.traces import inject

logger = logging.getLogger(__name__)

CHILD_STOP_S = 10.0


class Child(Protocol):
    """What a worker follows while it holds a lease: a process of its own, or what stands for one elsewhere."""

    @property
    def ended(self) -> bool:
        """Whether it is over."""

    @property
    def code(self) -> int:
        """How it ended, as `runs.child` numbers it. Known once it has ended or was stopped."""

    @property
    def reason(self) -> str:
        """Why it gave no result."""

    def lines(self) -> Iterator[Progress]:
        """Yield what it has reported since the last call."""

    def stop(self) -> None:
        """End it, and whatever it has started, unless it is over. Returns within seconds, and raises nothing."""


class ChildProcess:
    """A child process and what it says; without an assignment it waits until `hand_over`."""

    def __init__(self, module: str, assignment: Path | None, source: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *([] if assignment is None else [str(assignment)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment, **_trace()},
        )
        self._lines: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._source = source
        self._reason = ""
        self._reader = threading.Thread(target=self._read, name=f"{source} child", daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        return self._process.poll() is not None

    @property
    def code(self) -> int:
        """Exit code; waits for it."""
        return self._process.wait()

    @property
    def reason(self) -> str:
        """Why it gave no result."""
        return self._reason or f"the child process ended with code {self.code} and gave no reason; see its log"

    def hand_over(self, assignment: Path) -> bool:
        """Give a waiting child its assignment. Return whether it took it: False when it is gone."""
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        try:
            self._process.stdin.write(hand_over(assignment, _trace()))
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return not self.ended

    def lines(self) -> Iterator[Progress]:
        """Yield what it has reported since the last call."""
        while not self._lines.empty():
            yield self._lines.get()

    def stop(self) -> None:
        """Close its standard input, so that it ends, and wait; kill it when it does not."""
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        # Something may be left to be written when nobody is there to read it.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(CHILD_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        with self._process.stdout as stdout:
            for line in stdout:
                try:
                    parsed = parse_line(line)
                except ValueError as error:
                    logger.warning("%s: the child said something else: %s", self._source, error)
                    continue
                if isinstance(parsed, Failure):
                    self._reason = parsed.reason
                else:
                    self._lines.put(parsed)


class Standby:
    """Keeps one child waiting, so that a run begins without importing anything.

    `start` makes a child: one with an assignment, or one that waits. A child that died while it waited is not replaced
    before a run has asked for it: what kills it would kill the next one as well.
    """

    def __init__(self, start: Callable[[Path | None], ChildProcess]) -> None:
        self._start = start
        self._waiting: ChildProcess | None = None

    def prepare(self) -> None:
        """Let a child wait, when none does."""
        if self._waiting is None:
            self._waiting = self._start(None)

    def take(self, assignment: Path) -> ChildProcess:
        """Return a child that has the assignment: the one that waits, or a new one."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return self._start(assignment)
        if waiting.hand_over(assignment):
            return waiting
        logger.warning("the child that waited is gone: %s", waiting.reason)
        waiting.stop()
        return self._start(assignment)

    def close(self) -> None:
        """End the child that waits."""
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None


def _trace() -> dict[str, str]:
    return {name.upper(): value.decode() for name, value in inject([])}
