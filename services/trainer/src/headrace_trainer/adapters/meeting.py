"""Where the processes of a run meet: at a store of keys on machine 0, which they reach by TCP.

torchrun's own rendezvous, `c10d`, unpickles what it finds in its store. This one has keys that are JSON or addresses.
On one machine it listens on the loopback interface. Over several, what is to be done goes by it too: signed, as anybody
who reaches the port may write keys, and code of packages is run by what an assignment names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from datetime import timedelta
from typing import Any

from headrace_learning.training.group import LOOPBACK, SILENCE
from headrace_runtime.runs.child import Assignment
from torch import distributed
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

_ASSIGNMENT = "assignment"


class Meeting(RendezvousHandler):
    """Where agents meet, one of each machine, and then the processes that they start."""

    def __init__(self, run_id: str, store: Any, host: str, port: int, node: int = 0, nodes: int = 1) -> None:
        """`store` is a TCPStore at that address; `node` says which of the machines this is."""
        self.store = store
        self._run_id = run_id
        self._host, self._port = host, port
        self._node, self._nodes = node, nodes

    @classmethod
    def called(cls, run_id: str, address: tuple[str, int] = (LOOPBACK, 0), nodes: int = 1) -> Meeting:
        """Return one that others find at this address: at a free port where that is 0."""
        listening = socket.create_server(address)
        host, port = address[0], listening.getsockname()[1]
        store = _store(host, port, SILENCE, listening.detach())
        return cls(run_id, store, host, port, 0, nodes)

    @property
    def use_agent_store(self) -> bool:
        """Whether the processes meet at this store as well."""
        return True

    def get_backend(self) -> str:
        """Return its name."""
        return "headrace"

    def next_rendezvous(self) -> RendezvousInfo:
        """Return where to meet: who is there is known beforehand."""
        return RendezvousInfo(self.store, self._node, self._nodes, RendezvousStoreInfo(self._host, self._port))

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

    def hand_out(self, assignment: Assignment, processes: int, secret: str) -> None:
        """Tell the other machines what is to be done, by how many processes on each."""
        told = json.dumps({"assignment": assignment, "processes": processes}, sort_keys=True)
        self.store.set(_ASSIGNMENT, f"{_signature(told, secret)}{told}")


def taken(address: tuple[str, int], secret: str, patience: timedelta) -> tuple[Any, Assignment, int]:
    """Return the store at an address, what is to be done, and by how many processes of this machine.

    Raises torch.distributed.DistError, a RuntimeError, where nobody has called a meeting within `patience`, and
    ValueError for work that is not signed.
    """
    store = joined(address, patience)
    told = store.get(_ASSIGNMENT).decode()
    size = len(_signature("", secret))
    if not hmac.compare_digest(told[:size], _signature(told[size:], secret)):
        raise ValueError("assignment: expected one that HEADRACE_MEETING_SECRET signs, got another")
    store.set_timeout(SILENCE)
    work = json.loads(told[size:])
    return store, work["assignment"], work["processes"]


def joined(address: tuple[str, int], patience: timedelta) -> Any:
    """Return the store of keys at an address. Raises torch.distributed.DistError where there is none in that time."""
    return _store(*address, patience)


def _store(host: str, port: int, patience: timedelta, listening: int | None = None) -> Any:
    store: Any = distributed.TCPStore  # type: ignore[attr-defined]  # it is public, and not said to be
    more = {} if listening is None else {"master_listen_fd": listening}
    return store(host, port, is_master=listening is not None, wait_for_workers=False, timeout=patience, **more)


def _signature(told: str, secret: str) -> str:
    return hmac.new(secret.encode(), told.encode(), hashlib.sha256).hexdigest()
