"""The line: a queue of arrived calls, until the thread of gRPC's core answers them or passes them to the event loop.

A waiting call holds only its headers. Its message is requested at its turn, and stays with the caller until then. The
exception is the first 64 kB, which gRPC reads ahead on every stream.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import grpc

from headrace_runtime.rpc.admission import Admission, Capacity, Intake, Reason, Unfinished
from headrace_runtime.rpc.call import Aborted, Call
from headrace_runtime.rpc.errors import REFUSED, pushback
from headrace_runtime.rpc.methods import Method, Methods
from headrace_runtime.rpc.tasks import Tasks

AWAITED = 10_000
"""Number of calls that the core may hand out without a further request."""
CAPACITY = Capacity(calls=10_000, wait_s=30.0)
"""Limits of the line. Each call takes 15 kB in the core. Only calls without a deadline wait for so long."""
PACE_S = 0.0005
"""Seconds per call in this thread, before any measurement."""
UNFINISHED_S = 0.1
"""Age in seconds from which another message may replace an unfinished one, when there are too many."""
TURNS_TO_TELL = 4
"""Turns between two answers to refused calls, while other calls wait."""
MOST_BEHIND, LOOK_S = 16, 0.0005
"""Calls waiting for the event loop at which the line pauses, and the seconds until it checks again."""

_FIRST = "/grpc.health.v1.Health/"
"""Health calls skip the line, unless too many messages are unfinished. A restart due to failed health checks would make
an overload worse."""


class Line:
    """Waiting calls, in order of arrival. Not thread-safe: only the thread of its `Core` uses it."""

    def __init__(self, methods: Methods, tasks: Tasks, most_unfinished: int) -> None:
        self._methods = methods
        self._tasks = tasks
        self._waiting: deque[tuple[Method, Call]] = deque()
        self._unfinished: Unfinished[Call] = Unfinished(most_unfinished, UNFINISHED_S)
        self._admission = Admission(CAPACITY, pace_s=PACE_S)
        self._intake = Intake(self._admission, AWAITED)
        self._refused: list[tuple[Call, Reason]] = []
        """Refused calls without an answer yet. The newest is answered first. An answer costs four times as much as
        taking a call. Many such answers at once would make waiting calls late."""
        self._turns = 0
        self.pressed = False
        """Whether calls were refused or cancelled here since this was last set to False."""
        self._turned_s: float | None = None
        """Start of the last turn, if another call was waiting then. The next turn measures its duration."""

    @property
    def room(self) -> int:
        """Number of calls that the core may hand out without a further request."""
        return self._intake.room

    def strain(self, left_s: float | None) -> float:
        """Return how near a call is to being refused here, as `Admission.strain` does. From any thread."""
        return self._admission.strain(1, left_s, time.monotonic())

    @property
    def due_s(self) -> float | None:
        """Time of the next turn, in seconds of `time.monotonic`; None when no call waits."""
        if not self._waiting:
            return 0.0 if self._refused else None
        return time.monotonic() + LOOK_S if self._loop_is_behind else self._unfinished.due_s

    def arrived(self, call: Call) -> None:
        """Accept a newly arrived call: ask for its message, queue it, or refuse it."""
        with _Ending(call):
            method = self._methods.find(call.method)
            if method is None:
                call.refuse(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
            elif method.takes_stream:
                self._tasks.begin(method, call, None)
            elif self._may_begin(method):
                self._ask(method, call)
            else:
                self._join(method, call)

    def _may_begin(self, method: Method) -> bool:
        """Return whether a call may skip the line."""
        if method.path.startswith(_FIRST):
            return not self._unfinished.full
        return not (self._waiting or len(self._unfinished) or self._loop_is_behind)

    def turn(self) -> None:
        """Process the next waiting call, or answer a refused one."""
        self._turns += 1
        if self._refused and (not self._waiting or self._turns % TURNS_TO_TELL == 0):
            self._refuse(*self._refused.pop())
        if self._waiting and not self._loop_is_behind:
            self._next(time.monotonic())

    @property
    def _loop_is_behind(self) -> bool:
        return self._tasks.behind >= MOST_BEHIND

    def _next(self, now_s: float) -> None:
        if (overdue := self._unfinished.overdue(now_s)) is not None:
            self._give_up(overdue)
        elif self._unfinished.due_s:
            return
        if self._turned_s is not None:
            self._admission.learn(1, now_s - self._turned_s)
        method, call = self._waiting.popleft()
        self._admission.end(1, 0)
        self._turned_s = now_s if self._waiting else None
        with _Ending(call):
            left_s = call.time_remaining()
            if left_s is not None and left_s <= 0:
                self._turned_s = None
                self._refuse(call, Reason.LATE)
            else:
                self._ask(method, call)

    def _join(self, method: Method, call: Call) -> None:
        now_s = time.monotonic()
        reason = self._admission.refusal(1, 0, call.time_remaining(), now_s)
        self._intake.told(reason)
        self.pressed |= reason is not None
        if reason is None:
            self._admission.begin(1, 0, now_s)
            self._waiting.append((method, call))
        else:
            self._refused.append((call, reason))

    def _refuse(self, call: Call, reason: Reason) -> None:
        REFUSED.labels(reason.value).inc()
        if reason is Reason.LATE:
            call.refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the call was looked at")
        else:
            wait_s = self._admission.wait_s
            details = f"overloaded: {self._admission.calls} calls wait, the next one would for {wait_s:.2f} s"
            call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, details, pushback(wait_s))

    def _give_up(self, call: Call) -> None:
        self._unfinished.end(call)
        self.pressed = True
        REFUSED.labels("unfinished").inc()
        call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "the message is not complete, and too many others are not")

    def _ask(self, method: Method, call: Call) -> None:
        """Request the message of a call."""
        self._unfinished.begin(call, time.monotonic())
        call.receive(partial(self._received, method, call))

    def _received(self, method: Method, call: Call, message: bytes | None) -> None:
        if not self._unfinished.end(call):
            return  # the message took too long, and the call was refused
        with _Ending(call):
            if message is None:
                # The caller sent no message, cancelled, or sent too large a message, which the core has answered.
                call.fail(grpc.StatusCode.UNIMPLEMENTED, f"{method.path} takes exactly one request")
            answer = method.inline and method.inline(message, call)
            if answer is None:
                self._tasks.begin(method, call, message)
            else:
                call.answer(answer)


class _Ending(AbstractContextManager[None]):
    """Ends the call when its handler raises an exception. Otherwise its caller would wait for ever.

    It is not a generator. From Python 3.13 on, a generator's frame would keep the error and the call until the next
    garbage collection.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> bool:
        """End the call with the status that the handler chose, or with INTERNAL."""
        if isinstance(error, Aborted):
            self._call.end()
            return True
        if error is not None:
            self._call.refuse(grpc.StatusCode.INTERNAL, "internal error")
        return False
