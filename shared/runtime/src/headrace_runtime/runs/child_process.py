"""The worker's side of a child: a process that does one run, and one that waits for runs."""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headrace_runtime.runs.child import Ended, Failure, Progress, parse_line
from headrace_runtime.runs.fork_server import hand_over
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


@dataclass(slots=True)
class _Run:
    """What is known of the run in hand."""

    reason: str = ""
    code: int | None = None
    """The exit code that a child which waits for the next run has told."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the code is known, or nothing more will be told."""


class ChildProcess:
    """A child process and what it says; without an assignment it waits for one, and for the next one after each."""

    def __init__(self, module: str, assignment: Path | None, source: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *([] if assignment is None else [str(assignment)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment, **_trace()},
        )
        self._lines: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._source = source
        self._waits = assignment is None
        self._run = _Run()
        self._silent = False
        """Whether it will never say anything more."""
        self._reader = threading.Thread(target=self._read, name=f"{source} child", daemon=True)
        self._reader.start()

    @property
    def gone(self) -> bool:
        """Whether the process is over, and no run can be handed over."""
        return self._process.poll() is not None

    @property
    def ended(self) -> bool:
        """Whether the run in hand is over."""
        return self._run.code is not None or self.gone

    @property
    def code(self) -> int:
        """Exit code of the run in hand; waits for it."""
        run = self._run
        if self._waits:
            run.over.wait()
        return self._process.wait() if run.code is None else run.code

    @property
    def reason(self) -> str:
        """Why the run in hand gave no result."""
        return self._run.reason or f"the child process ended with code {self.code} and gave no reason; see its log"

    def hand_over(self, assignment: Path) -> bool:
        """Give a waiting child its next assignment. Return whether it took it: False when it is gone."""
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        # Nobody asks any more for what a run has said of which the lease was lost.
        self._run, self._lines = _Run(), queue.SimpleQueue()
        with suppress(BrokenPipeError):
            self._process.stdin.write(hand_over(assignment, _trace()))
            self._process.stdin.flush()
        if self._silent or self.gone:
            # Whoever reads may have ended before there was this run.
            self._run.over.set()
            return False
        return True

    def lines(self) -> Iterator[Progress]:
        """Yield what it has reported since the last call."""
        while not self._lines.empty():
            yield self._lines.get()

    def stop(self) -> None:
        """End the run in hand, and with it the process; one whose run has ended goes on waiting."""
        if self._run.code is None:
            self.end()

    def end(self) -> None:
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
                if isinstance(parsed, Ended):
                    self._run.code = parsed.code
                    self._run.over.set()
                elif isinstance(parsed, Failure):
                    self._run.reason = parsed.reason
                else:
                    self._lines.put(parsed)
        self._silent = True
        self._run.over.set()


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
        if self._waiting is None:
            return self._start(assignment)
        if self._waiting.hand_over(assignment):
            return self._waiting
        logger.warning("the child that waited is gone: %s", self._waiting.reason)
        self.close()
        return self._start(assignment)

    def give_back(self, child: Child) -> None:
        """Take note that a run is over: a child that went with it is no longer waiting."""
        if child is self._waiting and self._waiting.gone:
            self._waiting = None

    def close(self) -> None:
        """End the child that waits."""
        if self._waiting is not None:
            self._waiting.end()
            self._waiting = None


def _trace() -> dict[str, str]:
    return {name.upper(): value.decode() for name, value in inject([])}
