"""The drain of a gRPC server: how clients that do not watch its health move on before it stops.

A stop of gRPC's core sends GOAWAY on each connection and cancels the calls that arrive before the client has read it.
Under load, every such stop fails some calls. A connection that reaches its greatest age gets a GOAWAY too, but its
calls are still answered, and gRPC's clients retry the few that cross with it. The drain uses this. The server stops
listening, waits until its connections have aged and no more calls arrive, and stops only then.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

QUIET_S = 0.5
"""Seconds without a new call after which the drain ends: no client is left that would notice the stop."""

LOOK_S = 0.02
AGE_JITTER = 1.1
"""gRPC lets a connection live up to a tenth longer than it says."""

_DESCRIPTORS = Path("/proc/self/fd")


def stop_listening(port: int) -> bool:
    """Accept no more connections on a port of this process; return whether a listening socket was found.

    gRPC has no function for this. On Linux, a listening socket that is shut down refuses new connections. Established
    connections stay open.
    """
    done = False
    for descriptor in sorted(_DESCRIPTORS.iterdir()) if _DESCRIPTORS.is_dir() else ():
        try:
            if not descriptor.is_socket():
                continue
            # A socket of its own around a copy of the descriptor: closing it leaves grpc's open.
            listening = socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:
            continue  # closed since it was listed
        with listening:
            if _listens_on(listening, port):
                listening.shutdown(socket.SHUT_RDWR)
                done = True
    return done


def _listens_on(listening: socket.socket, port: int) -> bool:
    try:
        accepts = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(accepts) and listening.getsockname()[1] == port
    except (OSError, IndexError):
        return False


async def quiet(calls: Callable[[], int], limit_s: float) -> bool:
    """Wait until no call has arrived for `QUIET_S` seconds; return False when `limit_s` seconds pass first.

    `calls` returns the number of calls so far.
    """
    began_s = changed_s = time.monotonic()
    seen = calls()
    while time.monotonic() - changed_s < QUIET_S:
        if time.monotonic() - began_s > limit_s:
            return False
        await asyncio.sleep(LOOK_S)
        if calls() != seen:
            seen, changed_s = calls(), time.monotonic()
    return True
