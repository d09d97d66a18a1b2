"""A child that waits: it imports what runs need, and forks a process of its own for each run.

Imports take seconds of a processor and hundreds of megabytes; a fork has both at once, and gives back what a run took.
A fork copies one thread, and whatever lock another one holds at that moment stays locked for ever: when the process
forks, the thread that imported is there and holds nothing, and there is no other but for what imports start.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from headrace_runtime.process.pipes import STANDARD_INPUT
from headrace_runtime.runs.warm_up import WarmUp


def hand_over(path: Path, environment: Mapping[str, str]) -> bytes:
    """Return the line that gives a waiting child an assignment: the worker's side."""
    return json.dumps({"assignment": str(path), "environment": dict(environment)}).encode() + b"\n"


def serve(imports: Sequence[str], lines: TextIO, do: Callable[[Path], int]) -> None:
    """Do each assignment that comes by standard input in a fork, and write how it ended, until the input closes.

    `do` returns the exit code of the fork. A fork that is at work when the input closes is killed.
    """
    warm_up, handed = WarmUp(imports), b""
    warm_up.start()
    woken = _woken_by_children()
    while part := os.read(STANDARD_INPUT, 4096):
        handed += part
        if not handed.endswith(b"\n"):
            continue
        assignment, handed = json.loads(handed), b""
        warm_up.finish()
        lease, held = os.pipe()
        if (child := os.fork()) == 0:
            _become_a_child(lease, held, assignment["environment"])
            _end(do(Path(assignment["assignment"])))
        os.close(lease)
        code = _wait(child, woken)
        os.close(held)
        if code is None:
            return
        lines.write(json.dumps({"ended": code}) + "\n")
        lines.flush()


def _woken_by_children() -> int:
    """Return a pipe's end that can be read from when a child of this process has ended."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return woken


def _become_a_child(lease: int, held: int, environment: Mapping[str, str]) -> None:
    """Have the lease as standard input: it closes when the process that forked this one is gone."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(lease, STANDARD_INPUT)
    os.close(lease)
    os.close(held)
    os.environ.update(environment)


def _end(code: int) -> NoReturn:
    """End a fork, without taking down what was imported: libraries would end threads that a fork does not have."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _wait(child: int, woken: int) -> int | None:
    """Return the exit code of a child, negative for a signal; None when standard input closed, and it was killed."""
    while True:
        ready, _, _ = select.select([STANDARD_INPUT, woken], [], [])
        if STANDARD_INPUT in ready:
            # Nothing is handed over before the run has ended: it can only have closed.
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        os.read(woken, 4096)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
