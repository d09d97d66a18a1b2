"""torchrun's elastic agent, in the child process of a run: it starts the processes of the group and ends them together.

Each is `python -m headrace_trainer.rank ASSIGNMENT AGENT` and inherits the child's standard input, its lease, and a
pipe as standard output for lines of JSON. The group meets at a store of keys that this process has at a free port of
the loopback interface. No process is started again here: one that fails ends all, and the worker's next attempt goes on
from the checkpoint, by the same rules as every run.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from headrace_learning.training.group import LOOPBACK
from headrace_runtime.runs.child import Assignment, WorkRefused
from torch import distributed
from torch.distributed.elastic.agent.server.api import RunResult, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

logger = logging.getLogger(__name__)

_STANDARD_OUTPUT = 1
_MONITOR_S = 0.1
_STOP_S = 5
"""How long a process may take to end before it is killed."""

Line = Mapping[str, Any]
"""What a process of the group said."""


class GroupFailed(Exception):
    """A process of the group ended before its work was done; another attempt may get further."""


class OnThisMachine(RendezvousHandler):
    """Where the processes of one machine meet: torchrun's own, `c10d`, unpickles what it finds in its store."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._socket = socket.create_server((LOOPBACK, 0))
        self._port: int = self._socket.getsockname()[1]
        self._store = distributed.TCPStore(  # type: ignore[attr-defined]  # it is public, and not said to be
            LOOPBACK, self._port, is_master=True, wait_for_workers=False, master_listen_fd=self._socket.detach()
        )

    @property
    def use_agent_store(self) -> bool:
        """Whether the processes meet at this store as well."""
        return True

    def get_backend(self) -> str:
        """Return its name."""
        return "headrace"

    def next_rendezvous(self) -> RendezvousInfo:
        """Return where to meet: there is one agent, this one."""
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo(LOOPBACK, self._port))

    def is_closed(self) -> bool:
        """Return that it is open as long as it is there."""
        return False

    def set_closed(self) -> None:
        """Do nothing."""

    def num_nodes_waiting(self) -> int:
        """Return that nobody else comes."""
        return 0

    def get_run_id(self) -> str:
        """Return the run's id."""
        return self._run_id

    def shutdown(self) -> bool:
        """Do nothing: the store ends with the process."""
        return True


def run_group(assignment: Assignment, processes: int, heard: Callable[[Line], None]) -> dict[str, Any]:
    """Run an assignment in a group of processes, and return the result of the one that leads.

    `heard` is called with each other line that a process writes. Raises WorkRefused where one says that the work can
    never succeed, and GroupFailed where one ends otherwise. For the main thread.
    """
    said: list[Line] = []

    def hear(line: Line) -> None:
        if line.keys() & {"result", "refused", "error"}:
            said.append(line)
        else:
            heard(line)

    with _listening(hear):
        ended = _run(assignment, processes)
    found = {name: line[name] for line in reversed(said) for name in line}
    if "refused" in found:
        raise WorkRefused(found["refused"])
    if ended.is_failed() or "result" not in found:
        raise GroupFailed(_told(ended, processes, found.get("error", "")))
    result: dict[str, Any] = found["result"]
    return result


def _run(assignment: Assignment, processes: int) -> RunResult:
    # Who interrupts the worker interrupts the whole group: the worker decides what becomes of its child.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM"
    spec = WorkerSpec(
        role="trainer",
        local_world_size=processes,
        rdzv_handler=OnThisMachine(assignment["run_id"]),
        entrypoint=sys.executable,
        args=("-m", "headrace_trainer.rank", assignment["file"], str(os.getpid())),
        max_restarts=0,
        monitor_interval=_MONITOR_S,
    )
    logs = DefaultLogsSpecs(log_dir=os.devnull)
    agent = LocalElasticAgent(spec, logs, exit_barrier_timeout=_STOP_S, shutdown_timeout=_STOP_S)
    ended: RunResult = agent.run()
    return ended


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
    rank, failure = failures[0]
    killed = [
        f"process {place} of {processes} was killed by {each.signal_name()}"
        for place, each in failures
        if each.exitcode < 0
    ]
    return killed[0] if killed else reason or f"process {rank} of {processes} ended with code {failure.exitcode}"
