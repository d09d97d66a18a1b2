"""Where models are computed: at once in the event loop when that is quick, in a few threads when it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from headrace_runtime.errors import DeadlineExceeded

from headrace_inference.core.shelf import LoadedVersion
from headrace_inference.core.tensors import Array
from headrace_inference.errors import Overloaded

IN_LOOP_S = 0.001
"""Calls that should take less are computed in the event loop: the way to a thread and back costs about 0.15 ms."""


def is_quick(version: LoadedVersion, rows: int) -> bool:
    """Return whether a call of so many rows is computed in the event loop."""
    return version.speed.of(rows) <= IN_LOOP_S


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
        deadline_s = None if left_s is None else time.monotonic() + left_s
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, _run_before, version, arrays, outputs, time.monotonic(), deadline_s
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._pool.shutdown(cancel_futures=True)


def _run_before(
    version: LoadedVersion,
    arrays: Mapping[str, Array],
    outputs: Sequence[str],
    asked_s: float,
    deadline_s: float | None,
) -> tuple[list[Array], float]:
    began_s = time.monotonic()
    check_deadline(version, None if deadline_s is None else deadline_s - began_s)
    return version.model.run(arrays, outputs), began_s - asked_s


def check_deadline(version: LoadedVersion, left_s: float | None) -> None:
    """Raise DeadlineExceeded when a caller has no time left; None stands for a call without a deadline."""
    if left_s is not None and left_s <= 0:
        raise DeadlineExceeded(f"model {version.release.model!r}: the deadline passed before the model was asked")
