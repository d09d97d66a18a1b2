"""torchrun's elastic agent, in the child process of a run: it starts the processes of the group and ends them together.

Each is `python -m headrace_trainer.rank ASSIGNMENT AGENT` and inherits the child's standard input, its lease, and a
pipe as standard output for lines of JSON. No process is started again here: one that fails ends all, and the worker's
next attempt goes on from the checkpoint, by the same rules as every run. On other machines `headrace_trainer.node` has
an agent of its own.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from headrace_learning.training.group import LOOPBACK
from headrace_runtime.runs.child import Assignment, WorkRefused
from torch.distributed.elastic.agent.server.api import RunResult, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs

from headrace_trainer.adapters.meeting import Meeting

logger = logging.getLogger(__name__)

_STANDARD_OUTPUT = 1
_MONITOR_S = 0.1
_STOP_S = 5
"""How long a process may take to end before it is killed."""

Line = Mapping[str, Any]
"""What a process of the group said."""


class GroupFailed(Exception):
    """A process of the group ended before its work was done; another attempt may get further."""


@dataclass(frozen=True)
class Machines:
    """Over which machines a group is spread."""

    nodes: int = 1
    address: tuple[str, int] = (LOOPBACK, 0)
    """Where they meet: of this machine, which is the first."""
    secret: str = ""
    """What the others know an assignment by; empty where they have it already."""


def run_group(
    assignment: Assignment, processes: int, heard: Callable[[Line], None], machines: Machines | None = None
) -> dict[str, Any]:
    """Run an assignment in a group of processes, so many on each machine, and return the result of the one that leads.

    `heard` is called with each other line that a process writes. Raises WorkRefused where one says that the work can
    never succeed, and GroupFailed where one ends otherwise. For the main thread.
    """
    machines = machines or Machines()
    meeting = Meeting.called(assignment["run_id"], machines.address, machines.nodes)
    if machines.secret:
        meeting.hand_out(assignment, processes, machines.secret)
    ended, said = run_ranks(assignment["file"], processes, meeting, heard)
    found = {name: line[name] for line in reversed(said) for name in line}
    if "refused" in found:
        raise WorkRefused(found["refused"])
    if ended.is_failed() or "result" not in found:
        raise GroupFailed(_told(ended, processes, found.get("error", "")))
    result: dict[str, Any] = found["result"]
    return result


def run_ranks(
    file: str, processes: int, meeting: Meeting, heard: Callable[[Line], None] = logger.debug
) -> tuple[RunResult, list[Line]]:
    """Run this machine's processes of a group to their end. Returns how they ended, and their last lines."""
    said: list[Line] = []

    def hear(line: Line) -> None:
        if line.keys() & {"result", "refused", "error"}:
            said.append(line)
        else:
            heard(line)

    # Who interrupts the worker interrupts the whole group: the worker decides what becomes of its child.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM"
    spec = WorkerSpec(
        role="trainer",
        local_world_size=processes,
        rdzv_handler=meeting,
        entrypoint=sys.executable,
        args=("-m", "headrace_trainer.rank", file, str(os.getpid())),
        max_restarts=0,
        monitor_interval=_MONITOR_S,
    )
    logs = DefaultLogsSpecs(log_dir=os.devnull)
    agent = LocalElasticAgent(spec, logs, exit_barrier_timeout=_STOP_S, shutdown_timeout=_STOP_S)
    with _listening(hear):
        ended: RunResult = agent.run()
    return ended, said


@contextmanager
def _listening(hear: Callable[[Line], None]) -> Iterator[None]:
    """Have lines that processes write to their standard output heard, within."""
    reading, writing = os.pipe()
    own = os.dup(_STANDARD_OUTPUT)
    os.dup2(writing, _STANDARD_OUTPUT)
    os.close(writing)
    listener = threading.Thread(target=_listen, args=(reading, hear), name="group", daemon=True)
    listener.start()
    try:
        yield
    finally:
        os.dup2(own, _STANDARD_OUTPUT)
        os.close(own)
        listener.join()


def _listen(reading: int, hear: Callable[[Line], None]) -> None:
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            try:
                hear(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                logger.warning("a process of the group said something else: %s", error)


def _told(ended: RunResult, processes: int, reason: str) -> str:
    """Return why a group gave no result. The first to end is to blame: others fail because it is gone."""
    failures = sorted(ended.failures.items(), key=lambda each: each[1].timestamp)
    if not failures:
        return reason or f"none of {processes} processes gave a result"
    # The agent itself ends by SIGTERM those that are left: who was killed otherwise has said nothing, others have.
    killed = [each for each in failures if each[1].exitcode < 0 and each[1].exitcode != -signal.SIGTERM]
    if reason and not killed:
        return reason
    rank, failure = (killed or failures)[0]
    how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with code {failure.exitcode}"
    # Who aborts may have said why before: a library that ends badly after an error, or because of it.
    said = f", and the group said: {reason}" if reason and failure.exitcode == -signal.SIGABRT else ""
    return f"process {rank} of {processes} {how}{said}"
