"""A process that does what would hold this one up, or could end it: one message there, one back, in turns."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from headrace_runtime import errors
from headrace_runtime.errors import HeadraceError, Overloaded, Unavailable
from headrace_runtime.priorities import NORMAL
from headrace_runtime.rpc.turns import Turns

logger = logging.getLogger(__name__)

Told = dict[str, Any]
"""Values that JSON can say."""

START_S: Final = 60.0
"""Seconds that the process has to start."""
WAIT_S: Final = 1.0
"""Seconds after which callers are asked to come again when too many wait."""
LEVEL_S: Final = 1.0
"""Seconds of waiting that one level of priority is worth."""
NICENESS: Final = 5
"""Priority of the process: calls are answered meanwhile."""
FRAME: Final = struct.Struct("<?II")
"""Before each message: whether it went well, the length of its JSON, that of the bytes behind it."""
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")
"""All that the process knows of this one's environment, which may hold secrets."""
_ERRORS: Final[Mapping[str, type[HeadraceError]]] = {
    each.__name__: each
    for each in (
        errors.InvalidInput,
        errors.NotFound,
        errors.FailedPrecondition,
        errors.NotSupported,
        errors.TooLarge,
        errors.Unavailable,
        errors.DeadlineExceeded,
    )
}
"""What a work may raise there, and is raised here."""


class Ended(Unavailable):
    """The process ended while it worked."""


class TookTooLong(Unavailable):
    """The process was ended, as its work took too long."""


class Words(NamedTuple):
    """What callers are told of the process."""

    full: str
    """Why one is not taken in, behind how many wait."""
    ended: str
    """What became of the work of one."""


class OtherProcess:
    """One process of a module, started with its first work. Used in one event loop.

    The module ends with `run(works)`.
    """

    def __init__(self, module: str, words: Words) -> None:
        self._module = module
        self._words = words
        self._turns: Turns[asyncio.Future[None]] = Turns(LEVEL_S)
        self._busy = False
        self._waiting = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, told: Told, body: bytes, most_waiting: int, limit_s: float, priority: int = NORMAL
    ) -> tuple[Told, bytes]:
        """Return what the process makes of something, which it has `limit_s` seconds for once its turn came.

        Raises what the work raises, Overloaded where so many wait, Ended where the process did amid the work, and
        TookTooLong; Unavailable where the process does not start.
        """
        if self._waiting >= most_waiting:
            raise Overloaded(f"{self._waiting} {self._words.full}", WAIT_S)
        self._waiting += 1
        try:
            await self._turn(priority)
        except BaseException:
            self._waiting -= 1
            raise
        doing = asyncio.ensure_future(self._ask(told, body, limit_s))
        doing.add_done_callback(self._done)
        # A caller who leaves does not end it: the process has begun, and its answer has to be taken in.
        return await asyncio.shield(doing)

    def _done(self, doing: asyncio.Future[tuple[Told, bytes]]) -> None:
        self._waiting -= 1
        self._pass_on()
        if not doing.cancelled():
            doing.exception()  # looked at: nobody may wait for it any more

    async def _turn(self, priority: int) -> None:
        """Wait until nobody else is served, nor has to be before."""
        if not self._busy:
            self._busy = True
            return
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.add(come, priority, time.monotonic())
        try:
            await come
        except asyncio.CancelledError:
            self._turns.leave(come)
            if not come.cancelled():  # its turn came as the caller left
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while len(self._turns):
            if not (come := self._turns.next()).done():
                come.set_result(None)
                return
        self._busy = False

    async def _ask(self, told: Told, body: bytes, limit_s: float) -> tuple[Told, bytes]:
        reader, writer = await self._started()
        try:
            async with asyncio.timeout(limit_s):
                writer.write(packed(told, body))
                await writer.drain()
                well, answer, found = await _message(reader)
        except TimeoutError as error:
            self.close()
            logger.warning("%s took too long, and is started anew", self._module)
            raise TookTooLong(self._words.ended) from error
        except (OSError, EOFError) as error:
            self.close()
            logger.warning("%s ended, and is started anew: %r", self._module, error)
            raise Ended(self._words.ended) from error
        except BaseException:
            self.close()
            raise
        if not well:
            raise _ERRORS[answer["error"]](answer["told"])
        return answer, found

    async def _started(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the way to the process. Raises Unavailable where it does not start: no work is at fault for that."""
        try:
            async with asyncio.timeout(START_S):
                return await self._reached()
        except (OSError, EOFError) as error:  # a timeout, too
            self.close()
            logger.warning("%s does not start: %r", self._module, error)
            raise Unavailable(f"{self._words.ended} (it does not start)") from error
        except BaseException:
            self.close()
            raise

    async def _reached(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            ours, theirs = socket.socketpair()
            with theirs:
                environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
                command = [sys.executable, "-m", self._module, str(theirs.fileno())]
                self._process = await asyncio.to_thread(
                    subprocess.Popen, command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
            self._streams = await asyncio.open_connection(sock=ours, limit=1024 * 1024)
            await _message(self._streams[0])  # it has imported what it needs
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


async def _message(reader: asyncio.StreamReader) -> tuple[bool, Told, bytes]:
    well, text_bytes, body_bytes = FRAME.unpack(await reader.readexactly(FRAME.size))
    told: Told = json.loads(await reader.readexactly(text_bytes))
    return well, told, await reader.readexactly(body_bytes)


def packed(told: Told, body: bytes, *, well: bool = True) -> bytes:
    """Return a message as it is sent."""
    text = json.dumps(told).encode()
    return FRAME.pack(well, len(text), len(body)) + text + body


def run(work: Callable[[Told, bytes], tuple[Told, bytes]]) -> None:
    """Be that process: do a work for each message, one after the other, until the other side closes.

    The last argument of the command line is the connection. The first message says that all is imported. What a work
    raises of the errors above is told.
    """
    os.nice(NICENESS)
    try:
        with socket.socket(fileno=int(sys.argv[1])) as connection, connection.makefile("rb") as come:
            connection.sendall(packed({}, b""))
            while head := come.read(FRAME.size):
                _, text_bytes, body_bytes = FRAME.unpack(head)
                told = json.loads(come.read(text_bytes))
                connection.sendall(_answer(work, told, come.read(body_bytes)))
    except OSError:  # who asked has ended
        sys.exit(1)


def _answer(work: Callable[[Told, bytes], tuple[Told, bytes]], told: Told, body: bytes) -> bytes:
    try:
        return packed(*work(told, body))
    except tuple(_ERRORS.values()) as error:
        known = next(each.__name__ for each in type(error).__mro__ if each.__name__ in _ERRORS)
        return packed({"error": known, "told": str(error)}, b"", well=False)
