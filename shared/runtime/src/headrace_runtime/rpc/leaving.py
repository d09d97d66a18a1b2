"""How a gRPC server lets callers go that do not watch its health.

When a grpc server is stopped it tells its connections to go away (GOAWAY) and, from that moment on, cancels the calls
that come before their client has read this: under load every stop fails some. A connection that has reached its
greatest age is told the same while its calls are still answered, and gRPC's clients repeat the few that cross with it
by themselves. So the server first stops listening, then waits until its connections have aged and its callers have gone
elsewhere, and only then is stopped.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

QUIET_S = 0.5
"""A server without a new call for so long has no caller left that would notice its stop."""

LOOK_S = 0.02
AGE_JITTER = 1.1
"""gRPC lets a connection live up to a tenth longer than it says."""

_DESCRIPTORS = Path("/proc/self/fd")


def stop_listening(port: int) -> bool:
    """Take no more connections on a port of this process; return whether that worked.

    grpc has no call for it. On Linux, a listening socket that is shut down refuses connections; grpc notices (and logs
    that it cannot accept any more), and the connections that were made go on.
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
    """Wait until `calls`, a number that grows with each call, rests a while; False when it does not in `limit_s`."""
    began_s = changed_s = time.monotonic()
    seen = calls()
    while time.monotonic() - changed_s < QUIET_S:
        if time.monotonic() - began_s > limit_s:
            return False
        await asyncio.sleep(LOOK_S)
        if calls() != seen:
            seen, changed_s = calls(), time.monotonic()
    return True
