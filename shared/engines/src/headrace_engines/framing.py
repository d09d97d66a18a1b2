"""Messages between a program and the process of its engine: JSON behind its length, over a socket of their own."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

_LENGTH: Final = struct.Struct("<I")
_LARGEST: Final = 256 * 1024 * 1024
_AT_ONCE: Final = 256 * 1024

Message = dict[str, Any]
TEMPLATE, START, SCORE, CANCEL = "template", "start", "score", "cancel"
"""What the child is told to do."""
READY, REFUSED, STEP, TEXT, SCORED, WRONG = "ready", "refused", "step", "text", "scored", "wrong"
"""What it tells."""
MEMORY: Final = "memory"
"""How an answer ends for which there is no place."""


class Ended(Exception):
    """The other side has closed, or holds to no agreement."""


def packed(message: Message) -> bytes:
    """Return a message as it is sent."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class Inbox:
    """What comes over a socket, message by message. For one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._come = bytearray()

    def wait(self, limit_s: float | None) -> list[Message]:
        """Return what has come, at least one message. Raises Ended, and TimeoutError where nothing comes in time."""
        self._socket.settimeout(limit_s)
        while not (found := list(self._whole())):
            self._more()
        return found

    def come(self) -> list[Message]:
        """Return what has come, none where there is nothing. Raises Ended."""
        self._socket.settimeout(0.0)
        try:
            while True:
                self._more()
        except BlockingIOError:
            return list(self._whole())

    def _more(self) -> None:
        try:
            data = self._socket.recv(_AT_ONCE)
        except ConnectionError as error:
            raise Ended(str(error)) from error
        if not data:
            raise Ended("the other side has closed")
        self._come += data

    def _whole(self) -> Iterator[Message]:
        while len(self._come) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._come)
            if size > _LARGEST:
                raise Ended(f"expected messages of at most {_LARGEST} bytes, got one of {size}")
            if len(self._come) < (end := _LENGTH.size + size):
                return
            message = json.loads(self._come[_LENGTH.size : end])
            del self._come[:end]
            yield message
