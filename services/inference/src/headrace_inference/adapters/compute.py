"""Where models are computed: at once in the thread of the call when that is quick, in others when it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from headrace_runtime.errors import DeadlineExceeded

from headrace_inference.core.shelf import LoadedVersion
from headrace_inference.core.tensors import Array
from headrace_inference.errors import Overloaded

AT_ONCE_S = 0.001
"""Calls that should take less are computed at once: the way to another thread and back costs about 0.15 ms."""


def is_quick(version: LoadedVersion, rows: int) -> bool:
    """Return whether a call of so many rows is computed at once."""
    return version.speed.of(rows) <= AT_ONCE_S


class Compute:
    """Runs models. Used in one event loop; at most `max_waiting` calls wait for or use the `threads`."""

    def __init__(self, threads: int, max_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compute")
        self._max_waiting = max_waiting
        self._waiting = 0

    async def run(
        self,
        version: LoadedVersion,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
        rows: int,
        left_s: float | None,
    ) -> tuple[list[Array], float]:
        """Return the outputs named, and the seconds that the call waited for a thread.

        `left_s` is the time until the caller stops waiting, in seconds.

        Raises DeadlineExceeded when that is over before the model starts, and Overloaded when too many calls wait.
        """
        if is_quick(version, rows):
            check_deadline(version, left_s)
            return version.model.run(arrays, outputs), 0.0
        if self._waiting >= self._max_waiting:
            raise Overloaded(f"model {version.release.model!r}: {self._waiting} calls wait already, no more may")
        job = _Job(version, arrays, outputs, time.monotonic(), left_s)
        self._waiting += 1
        computing = asyncio.get_running_loop().run_in_executor(self._pool, job.run)
        computing.add_done_callback(self._ended)
        try:
            # A caller that leaves gives up its answer and not its place, which a thread or the queue still holds.
            return await asyncio.shield(computing)
        except asyncio.CancelledError:
            job.give_up()
            raise

    def _ended(self, computing: asyncio.Future[tuple[list[Array], float]]) -> None:
        self._waiting -= 1
        if not computing.cancelled():
            computing.exception()  # looked at: nobody may wait for it any more

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._pool.shutdown(cancel_futures=True)


class _Job:
    """A call that waits for a thread."""

    def __init__(
        self,
        version: LoadedVersion,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
        asked_s: float,
        left_s: float | None,
    ) -> None:
        self._version = version
        self._arrays: Mapping[str, Array] | None = arrays
        self._outputs = outputs
        self._asked_s = asked_s
        self._left_s = left_s

    def give_up(self) -> None:
        """Compute nothing, unless it has begun, and keep no arrays."""
        self._arrays = None

    def run(self) -> tuple[list[Array], float]:
        """Return the outputs and the seconds that the call waited, from a thread; nothing when it was given up."""
        arrays, waited_s = self._arrays, time.monotonic() - self._asked_s
        if arrays is None:
            return [], waited_s
        check_deadline(self._version, None if self._left_s is None else self._left_s - waited_s)
        return self._version.model.run(arrays, self._outputs), waited_s


def check_deadline(version: LoadedVersion, left_s: float | None) -> None:
    """Raise DeadlineExceeded when a caller has no time left; None stands for a call without a deadline."""
    if left_s is not None and left_s <= 0:
        raise DeadlineExceeded(f"model {version.release.model!r}: the deadline passed before the model was asked")
