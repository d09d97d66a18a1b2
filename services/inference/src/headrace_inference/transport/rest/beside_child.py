"""The process beside: `python -m headrace_inference.transport.rest.beside_child FD`. See `beside`."""

from __future__ import annotations

import json
import os
import socket
import sys

from headrace_runtime.errors import InvalidInput

from headrace_inference.transport.rest.beside import FRAME, packed
from headrace_inference.transport.rest.works import WORKS

NICENESS = 5
"""Priority: calls are answered meanwhile."""


def serve(connection: socket.socket) -> None:
    """Do works one after the other until the other side closes."""
    with connection, connection.makefile("rb") as come:
        while head := come.read(FRAME.size):
            _, text_bytes, body_bytes = FRAME.unpack(head)
            told = json.loads(come.read(text_bytes))
            body = come.read(body_bytes)
            connection.sendall(_done(told.pop("work"), told, body))


def _done(work: str, told: dict[str, object], body: bytes) -> bytes:
    try:
        return packed(*WORKS[work](told, body))
    except InvalidInput as error:
        return packed({"told": str(error)}, b"", well=False)


if __name__ == "__main__":
    os.nice(NICENESS)
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except OSError:  # who asked has ended
        sys.exit(1)
