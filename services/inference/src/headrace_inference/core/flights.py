"""Single-flight: equal calls that come at once are computed once, and all of them are answered with it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

Left = Callable[[], float | None]
"""The seconds until nobody waits any more, asked whenever it matters; None without a limit."""

T = TypeVar("T")


class _Flight(Generic[T]):
    """One computation and how many wait for it. It has the time of the caller who waits longest."""

    def __init__(self) -> None:
        self.callers = 0
        self.task: asyncio.Task[T]
        self._ends_s = -math.inf

    def wait_for(self, left_s: float | None) -> None:
        """Take one more caller, who has so many seconds left."""
        self.callers += 1
        self._ends_s = max(self._ends_s, math.inf if left_s is None else time.monotonic() + left_s)

    def left_s(self) -> float | None:
        """Return the seconds until the last caller stops waiting; None when one waits for ever."""
        return None if self._ends_s == math.inf else self._ends_s - time.monotonic()


class Flights(Generic[T]):
    """Computations on their way by the key of their calls. Used in one event loop.

    A computation is nobody's own: it goes on when the caller who began it leaves, has the time of the most patient one,
    and ends when all have left. So its failure is that of each of them.

    At most `most_calls` calls of together `most_bytes` bytes wait for others' computations. Those beyond compute for
    themselves, where admission judges them.
    """

    def __init__(self, most_calls: int, most_bytes: int) -> None:
        self._most_calls = most_calls
        self._most_bytes = most_bytes
        self._calls = self._bytes = 0
        self._flights: dict[bytes, _Flight[T]] = {}

    async def join(
        self, key: bytes, size_bytes: int, left_s: Left, compute: Callable[[Left], Coroutine[Any, Any, T]]
    ) -> tuple[T, bool]:
        """Return what is computed for the key, and whether another call began it.

        `size_bytes` is what the call holds while it waits. `compute` is given the time that it has, which grows with
        each caller. Raises what it raises.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.wait_for(left_s())
            flight.task = asyncio.create_task(compute(flight.left_s))
            flight.task.add_done_callback(partial(self._ended, key, flight))
            return await self._landed(key, flight), False
        if self._calls >= self._most_calls or self._bytes + size_bytes > self._most_bytes:
            return await compute(left_s), False
        flight.wait_for(left_s())
        self._calls += 1
        self._bytes += size_bytes
        try:
            return await self._landed(key, flight), True
        finally:
            self._calls -= 1
            self._bytes -= size_bytes

    async def _landed(self, key: bytes, flight: _Flight[T]) -> T:
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()

    def _ended(self, key: bytes, flight: _Flight[T], task: asyncio.Task[T]) -> None:
        self._forget(key, flight)
        if not task.cancelled():
            task.exception()  # looked at: nobody may wait for it any more

    def _forget(self, key: bytes, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
