"""A process beside this one for large JSON: while a parser works, it holds the interpreter, and every call with it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from typing import Final

from headrace_runtime.errors import InvalidInput, Overloaded, Unavailable

from headrace_inference.transport.rest.works import WORKS, Told

logger = logging.getLogger(__name__)

AT_ONCE_BYTES: Final = 16 * 1024
"""JSON up to this size is read here, within a few milliseconds: the way to the process takes 0.3 ms."""
MOST_WAITING: Final = 64
"""Bodies that may wait for the process; others are Overloaded."""
WAIT_S: Final = 1.0
"""Seconds after which such callers are asked to come again."""
LIMIT_S: Final = 60.0
"""Seconds that one body may take, the start of the process included."""
FRAME: Final = struct.Struct("<?II")
"""Before each message: whether it went well, the length of its JSON, that of the bytes behind it."""
_CHILD: Final = "headrace_inference.transport.rest.beside_child"
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")
"""All that the process knows of this one's environment, which may hold secrets."""


def packed(told: Told, body: bytes, *, well: bool = True) -> bytes:
    """Return a message as it is sent."""
    text = json.dumps(told).encode()
    return FRAME.pack(well, len(text), len(body)) + text + body


class Beside:
    """Does works, here or there. Used in one event loop; the process is started at the first large body."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def do(self, work: str, told: Told, body: bytes, json_bytes: int | None = None) -> tuple[Told, bytes]:
        """Return what a work makes of a body of which `json_bytes` are JSON (None: all).

        Raises InvalidInput as the work does, Overloaded where too many wait, and Unavailable where the process ended.
        """
        if (len(body) if json_bytes is None else json_bytes) <= AT_ONCE_BYTES:
            return WORKS[work](told, body)
        if self._waiting >= MOST_WAITING:
            raise Overloaded(f"{self._waiting} bodies of large JSON wait already: binary data need not wait", WAIT_S)
        self._waiting += 1
        doing = asyncio.ensure_future(self._do_there(work, told, body))
        doing.add_done_callback(self._done)
        # A caller who leaves does not end it: the process has begun, and its answer has to be taken in.
        return await asyncio.shield(doing)

    def _done(self, doing: asyncio.Future[tuple[Told, bytes]]) -> None:
        self._waiting -= 1
        if not doing.cancelled():
            doing.exception()  # looked at: nobody may wait for it any more

    async def _do_there(self, work: str, told: Told, body: bytes) -> tuple[Told, bytes]:
        async with self._turn:
            try:
                async with asyncio.timeout(LIMIT_S):
                    reader, writer = await self._reached()
                    writer.write(packed({"work": work, **told}, body))
                    await writer.drain()
                    well, text_bytes, body_bytes = FRAME.unpack(await reader.readexactly(FRAME.size))
                    answer = json.loads(await reader.readexactly(text_bytes))
                    found = await reader.readexactly(body_bytes)
            except (OSError, EOFError, TimeoutError) as error:
                self.close()
                logger.warning("the process that reads large JSON ended, and is started anew: %r", error)
                raise Unavailable("the process that reads large JSON ended; binary data does not need it") from error
            except BaseException:
                self.close()
                raise
        if not well:
            raise InvalidInput(answer["told"])
        return answer, found

    async def _reached(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            ours, theirs = socket.socketpair()
            with theirs:
                environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
                command = [sys.executable, "-m", _CHILD, str(theirs.fileno())]
                self._process = await asyncio.to_thread(
                    subprocess.Popen, command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
            self._streams = await asyncio.open_connection(sock=ours, limit=1024 * 1024)
        return self._streams

    def close(self) -> None:
        """End the process."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
        if self._process is not None:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            self._process = None
