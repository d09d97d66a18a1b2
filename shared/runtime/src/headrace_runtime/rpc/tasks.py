"""Calls that are answered in an event loop, one asyncio task for each call."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc

from headrace_runtime.rpc.admission import Unfinished
from headrace_runtime.rpc.call import Aborted, Call
from headrace_runtime.rpc.errors import REFUSED, pushback
from headrace_runtime.rpc.methods import Method

logger = logging.getLogger(__name__)

SILENT_S = 10.0
"""Seconds without a request after which a stream may lose its place, when there are too many."""
PLACE_S = 1.0
"""Seconds after which a caller whose stream has got no place, or has lost it, is asked to come again."""


class Tasks:
    """Runs one task for each call, in the event loop in which the object was created.

    A call that is cancelled, by its caller or its deadline, cancels its task.
    """

    def __init__(self, most_streams: int) -> None:
        """Accept so many streams of requests at a time: each may have an unfinished message as long as it is open."""
        self._most_streams = most_streams
        self._streams: Unfinished[Call] = Unfinished(most_streams, SILENT_S)
        self.pressed = False
        """Whether streams were refused here since this was last set to False."""
        self._loop = asyncio.get_running_loop()
        self._running: dict[Call, asyncio.Task[None]] = {}
        self._given = self._begun = 0  # each counted in one thread

    @property
    def behind(self) -> int:
        """Calls that the event loop has not begun with."""
        return self._given - self._begun

    def begin(self, method: Method, call: Call, message: bytes | None) -> None:
        """Start the task of a call, from any thread. `message` is its request; None when its requests are a stream."""
        self._given += 1
        self._loop.call_soon_threadsafe(self._begin, method, call, message)

    async def ended(self) -> None:
        """Wait until every task has ended."""
        while self._running:
            await asyncio.wait(self._running.values())

    def _begin(self, method: Method, call: Call, message: bytes | None) -> None:
        self._begun += 1
        if message is None:
            self._end_silent_stream()
            if self._streams.full:
                self._refuse_stream(call, f"{self._most_streams} streams of requests are open, the most at a time")
                return
            self._streams.begin(call, time.monotonic())
        task = self._loop.create_task(self._run(method, call, message))
        self._running[call] = task
        task.add_done_callback(partial(self._left, call))
        call.watch(partial(self._soon, task.cancel))

    def _left(self, call: Call, _task: asyncio.Task[None]) -> None:
        del self._running[call]
        self._streams.end(call)

    def _end_silent_stream(self) -> None:
        """End the stream that was silent for longest, when its place is needed and it was silent for too long."""
        if (silent := self._streams.overdue(time.monotonic())) is not None:
            self._streams.end(silent)
            self._refuse_stream(silent, f"nothing was sent for {SILENT_S:.0f} s, and another stream needs the place")
            self._running[silent].cancel()

    def _refuse_stream(self, call: Call, details: str) -> None:
        REFUSED.labels("streams").inc()
        self.pressed = True
        call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, details, pushback(PLACE_S))

    def _soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the event loop. Does nothing once the loop is closed: its calls have ended with it."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            logger.debug("the event loop has ended")

    async def _run(self, method: Method, call: Call, message: bytes | None) -> None:
        try:
            await self._answer(method, call, message)
        except Aborted:
            call.end()
        except asyncio.CancelledError:
            call.drop()
            raise
        except Exception:
            # Interceptors turn errors into statuses, so this is one of theirs.
            logger.exception("%s failed", method.path)
            call.refuse(grpc.StatusCode.UNKNOWN, "internal error")

    async def _answer(self, method: Method, call: Call, message: bytes | None) -> None:
        request = self._requests(method, call) if message is None else _read(method, call, message)
        if not method.gives_stream:
            call.answer(method.write(await method.behaviour(request, call)))
            return
        async with aclosing(method.behaviour(request, call)) as responses:
            async for response in responses:
                await self._told(partial(call.send, method.write(response)))
        call.end()

    async def _requests(self, method: Method, call: Call) -> AsyncIterator[Any]:
        while (message := await self._told(call.receive)) is not None:
            if self._streams.end(call):
                self._streams.begin(call, time.monotonic())  # as the one that was silent for the shortest time
            yield _read(method, call, message)
        # A stream that was cancelled ends like one that is complete. Asked once more, the core answers only after it
        # has told of the cancellation, and then this task is cancelled first.
        await self._told(call.receive)

    async def _told(self, start: Callable[[Callable[..., None]], None]) -> Any:
        """Start an operation and return its result."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def told(result: Any = None) -> None:
            self._soon(_settle, future, result)

        start(told)
        return await future


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():  # or its call was cancelled
        future.set_result(result)


def _read(method: Method, call: Call, message: bytes) -> Any:
    try:
        return method.read(message)
    except Exception as error:
        call.fail(grpc.StatusCode.INVALID_ARGUMENT, f"{method.path}: the bytes are no request of this method: {error}")
