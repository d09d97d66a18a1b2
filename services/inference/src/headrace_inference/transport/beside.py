"""Threads of candidates: what a candidate does there keeps no call of the champion waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from headrace_runtime.errors import DeadlineExceeded, Overloaded

from headrace_inference.core.rollout import Tallies
from headrace_inference.core.tensors import Array
from headrace_inference.ports import Model

REST: int = 3
"""How many times as long as it has computed the shadow rests: it takes a fourth of one thread at most."""


class Beside:
    """Runs candidates in threads of their own, and shadows in one more. Nothing waits for a thread: it is refused.

    A run that takes too long keeps its thread until the engine ends it, so that what hangs is tried so often at most.
    """

    def __init__(self, threads: int, tallies: Tallies | None = None) -> None:
        self.tallies = tallies or Tallies()
        """What is counted of candidates, and of the champions beside them."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="candidate")
        self._free = threading.Semaphore(threads)
        self._shadow = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._shaded = threading.Semaphore(1)
        self._rests_until_s = 0.0

    async def run(
        self, model: Model, arrays: Mapping[str, Array], outputs: Sequence[str], within_s: float
    ) -> tuple[list[Array], float]:
        """Return the outputs named, and the seconds that they took.

        Raises Overloaded when no thread is free, DeadlineExceeded after `within_s`, and what the model raises.
        """
        if not self._free.acquire(blocking=False):
            raise Overloaded("no thread of candidates is free", 0.0)
        running: Future[tuple[list[Array], float]] = self._pool.submit(timed, model, arrays, outputs)
        running.add_done_callback(lambda _: self._free.release())
        waiting = asyncio.wrap_future(running)
        waiting.add_done_callback(_looked_at)
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), within_s)
        except TimeoutError:
            raise DeadlineExceeded(f"the candidate did not answer within {within_s:.3g} s") from None

    def shade(self, work: Callable[[], None]) -> bool:
        """Do something in the shadow, from any thread; return False when it is busy or rests."""
        if time.monotonic() < self._rests_until_s or not self._shaded.acquire(blocking=False):
            return False
        self._shadow.submit(self._rested, work)
        return True

    def _rested(self, work: Callable[[], None]) -> None:
        began_s = time.monotonic()
        try:
            work()
        finally:
            ended_s = time.monotonic()
            self._rests_until_s = ended_s + REST * (ended_s - began_s)
            self._shaded.release()

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        for pool in (self._pool, self._shadow):
            pool.shutdown(wait=False, cancel_futures=True)


def timed(model: Model, arrays: Mapping[str, Array], outputs: Sequence[str]) -> tuple[list[Array], float]:
    """Return the outputs named, and the seconds that they took."""
    began_s = time.perf_counter()
    return model.run(arrays, outputs), time.perf_counter() - began_s


def _looked_at(waiting: asyncio.Future[tuple[list[Array], float]]) -> None:
    if not waiting.cancelled():
        waiting.exception()  # nobody may wait for it any more
