"""Where models are computed: at once in the thread of the call when that is quick, in others when it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from headrace_runtime.errors import Overloaded
from headrace_runtime.priorities import NORMAL
from headrace_runtime.rpc.admission import Admission, Capacity, Reason
from headrace_runtime.rpc.turns import Turns

from headrace_inference.core.flights import Left
from headrace_inference.core.quickness import check_deadline, is_quick, late
from headrace_inference.core.shelf import LoadedVersion
from headrace_inference.core.tensors import Array


class Compute:
    """Runs models: quick ones at once, others in `threads`, for which calls wait as `capacity` says.

    Used in one event loop, but for `check`.
    """

    def __init__(self, threads: int, capacity: Capacity) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compute")
        # A unit of work is what takes a second when a model is warmed; under load it takes longer, which is learnt.
        self._admission = Admission(capacity, lanes=threads)
        # A level is worth the longest wait: until then what is more urgent goes first, and nobody waits much longer.
        self._turns: Turns[_Job] = Turns(capacity.wait_s)

    def check(
        self, version: LoadedVersion, rows: int, size_bytes: int, left_s: float | None, priority: int = NORMAL
    ) -> None:
        """Raise when a call of so many rows and bytes could not be computed in time, from any thread.

        `left_s` is the time until the caller stops waiting, in seconds. Raises DeadlineExceeded when that is over, and
        Overloaded when the call would wait too long for a thread, or too much waits already.
        """
        if is_quick(version, rows):
            check_deadline(version, left_s)
            return
        admission = self._admission
        reason = admission.refusal(version.speed.of(rows), size_bytes, left_s, time.monotonic(), priority)
        if reason is Reason.OVERLOADED:
            wait_s = admission.wait_of(priority)
            waiting = f"{admission.calls} calls wait already, one more would for {wait_s:.2f} s"
            raise Overloaded(f"model {version.release.model!r}: {waiting}", wait_s)
        if reason is not None:
            raise late(version)

    def strain(self, version: LoadedVersion, left_s: float | None) -> float:
        """Return how near a call of one row is to being refused, as `Admission.strain` does; 0 of one that is quick."""
        if is_quick(version, 1):
            return 0.0
        return self._admission.strain(version.speed.of(1), left_s, time.monotonic())

    async def run(
        self,
        version: LoadedVersion,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
        rows: int,
        size_bytes: int,
        left_s: Left,
        priority: int = NORMAL,
    ) -> tuple[list[Array], float]:
        """Return the outputs named, and the seconds that the call waited for a thread.

        `size_bytes` is how much the call holds while it waits, `left_s` tells the time until its caller stops waiting,
        from any thread: it may grow, as more callers join.

        Raises what `check` raises, and DeadlineExceeded when the model could not answer in time any more once the
        call's turn came.
        """
        self.check(version, rows, size_bytes, left_s(), priority)
        if is_quick(version, rows):
            return version.model.run(arrays, outputs), 0.0
        job, now_s = _Job(version, arrays, outputs, rows, left_s), time.monotonic()
        self._admission.begin(job.work_s, size_bytes, now_s, priority)
        self._turns.add(job, priority, now_s)
        self._pool.submit(self._compute_next)
        computing = asyncio.wrap_future(job.found)
        computing.add_done_callback(partial(self._ended, job, size_bytes, priority))
        try:
            # A caller that leaves gives up its answer and not its place, which a thread or the queue still holds.
            return await asyncio.shield(computing)
        except asyncio.CancelledError:
            job.give_up()
            raise

    def _compute_next(self) -> None:
        """Compute the call whose turn it is, in a thread: there are as many turns as calls."""
        job = self._turns.next()
        if not job.found.set_running_or_notify_cancel():
            return
        try:
            job.found.set_result(job.run())
        except BaseException as error:  # whatever it is, who waits for it is told
            job.found.set_exception(error)

    def _ended(
        self, job: _Job, size_bytes: int, priority: int, computing: asyncio.Future[tuple[list[Array], float]]
    ) -> None:
        self._admission.end(job.work_s, size_bytes, priority)
        if job.took_s:
            self._admission.learn(job.work_s, job.took_s)
        if not computing.cancelled():
            computing.exception()  # looked at: nobody may wait for it any more

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._pool.shutdown(cancel_futures=True)
        while self._turns:
            self._turns.next().found.cancel()


class _Job:
    """A call that waits for a thread."""

    def __init__(
        self,
        version: LoadedVersion,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
        rows: int,
        left_s: Left,
    ) -> None:
        self._version = version
        self._arrays: Mapping[str, Array] | None = arrays
        self._outputs = outputs
        self._asked_s = time.monotonic()
        self._left_s = left_s
        self.work_s = version.speed.of(rows)
        """How long it should take, in seconds."""
        self.took_s = 0.0
        """How long it took; 0 when the model was not asked."""
        self.found: Future[tuple[list[Array], float]] = Future()
        """What `run` returned or raised, in the thread whose turn it was."""

    def give_up(self) -> None:
        """Compute nothing, unless it has begun, and keep no arrays."""
        self._arrays = None

    def run(self) -> tuple[list[Array], float]:
        """Return the outputs and the seconds that the call waited, from a thread; nothing when it was given up."""
        began_s = time.monotonic()
        arrays, waited_s = self._arrays, began_s - self._asked_s
        if arrays is None:
            return [], waited_s
        left_s = self._left_s()
        if left_s is not None and left_s < self.work_s:
            raise late(self._version)
        results = self._version.model.run(arrays, self._outputs)
        self.took_s = time.monotonic() - began_s
        return results, waited_s
