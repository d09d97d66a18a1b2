"""TCP ports on this machine: who holds one, and which are free."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Mapping
from itertools import cycle

import psutil  # type: ignore[import-untyped]

from headrace_local.errors import PortBusy
from headrace_local.settings import split_address

FREE_RANGE = range(20_000, 32_000)
"""Below the range that systems give to outgoing connections, so that none of those takes a port before it is used."""
_walk: Iterator[int]


def check_free(listens: Mapping[str, str]) -> None:
    """Raise PortBusy that names every address of {setting: address} that another process holds."""
    problems = [
        f"{value} is taken by {holder(split_address(value)[1])}: stop it, or set {setting} to another host:port"
        for setting, value in listens.items()
        if not is_free(*split_address(value))
    ]
    if problems:
        raise PortBusy(problems)


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen on host:port now."""
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False


def holder(port: int) -> str:
    """Return name and pid of the process that listens on a port, as far as this user may know it."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        connections = []
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return "a process that this user may not see"


def pick_from(ports: range) -> None:
    """Let `find_free` pick from these ports, from a random one on."""
    global _walk
    first = random.randrange(len(ports))  # noqa: S311 - no secret
    _walk = cycle([*ports[first:], *ports[:first]])


def find_free(count: int, *, consecutive: bool = False) -> list[int]:
    """Return free loopback ports, in a row when consecutive.

    None is given a second time before all others were: the first caller may not have taken it yet.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_walk)
        if consecutive and found[-1:] != [port - 1]:
            found = []
        if is_free("127.0.0.1", port):
            found.append(port)
    return found


pick_from(FREE_RANGE)
