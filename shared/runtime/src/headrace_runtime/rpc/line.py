"""The line: calls that have arrived, and wait until the thread of gRPC's core answers them or hands them on.

A call waits as its headers alone. Its message is asked for when its turn has come: until then it stays with the caller,
but for what gRPC reads ahead of every stream, 64 kB.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import grpc
from prometheus_client import Counter

from headrace_runtime.admission import Admission, Capacity, Intake, Reason, Unfinished
from headrace_runtime.rpc.call import Aborted, Call
from headrace_runtime.rpc.errors import pushback
from headrace_runtime.rpc.methods import Method, Methods
from headrace_runtime.rpc.tasks import Tasks

AWAITED = 10_000
"""Calls that the core may hand out before the thread asks for more."""
CAPACITY = Capacity(calls=10_000, wait_s=30.0)
"""What may wait in the line: 15 kB each in the core. Only calls without a deadline wait so long."""
PACE_S = 0.0005
"""How long a call takes in this thread, until that is learnt."""
UNFINISHED_S = 0.1
"""Age at which an unfinished message may have to go for another, when there are too many."""
TURNS_TO_TELL = 4
"""Turns after which one refused call is told so, while others wait."""
MOST_BEHIND, LOOK_S = 16, 0.0005
"""Calls that may wait for the event loop: then the line stands still, and looks again after so many seconds."""

REFUSED = Counter(
    "headrace_rpc_server_calls_refused_total",
    "Calls that were refused before their method was asked: late, overloaded, or unfinished for too long.",
    ("reason",),
)
_FIRST = "/grpc.health.v1.Health/"
"""Who asks for health does not wait, unless too many messages are unfinished: a server that is restarted because it is
overloaded answers even less."""


class Line:
    """Calls that arrive, in the order in which they came. Used in the thread of one `Core`."""

    def __init__(self, methods: Methods, tasks: Tasks, most_unfinished: int) -> None:
        self._methods = methods
        self._tasks = tasks
        self._waiting: deque[tuple[Method, Call]] = deque()
        self._unfinished: Unfinished[Call] = Unfinished(most_unfinished, UNFINISHED_S)
        self._admission = Admission(CAPACITY, pace_s=PACE_S)
        self._intake = Intake(self._admission, AWAITED)
        self._refused: list[tuple[Call, Reason]] = []
        """Calls that were refused and are told so when there is time, the last one first: to tell costs four times
        what it costs to take a call, and when many are refused at once, those that wait would be late for it."""
        self._turns = 0
        self.pressed = False
        """Whether calls were refused or given up since this was last set to False."""
        self._turned_s: float | None = None
        """When the last turn began, if another call waited then: the next turn shows how long it took."""

    @property
    def room(self) -> int:
        """Calls that the core may hand out before it is asked for more."""
        return self._intake.room

    @property
    def due_s(self) -> float | None:
        """Time of the next turn, in seconds of `time.monotonic`; None when no call waits."""
        if not self._waiting:
            return 0.0 if self._refused else None
        return time.monotonic() + LOOK_S if self._loop_is_behind else self._unfinished.due_s

    def arrived(self, call: Call) -> None:
        """Take a call."""
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
        """Return whether a call need not wait."""
        if method.path.startswith(_FIRST):
            return not self._unfinished.full
        return not (self._waiting or len(self._unfinished) or self._loop_is_behind)

    def turn(self) -> None:
        """Go on with the call whose turn it is."""
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
        """Ask for the message of a call."""
        self._unfinished.begin(call, time.monotonic())
        call.receive(partial(self._received, method, call))

    def _received(self, method: Method, call: Call, message: bytes | None) -> None:
        if not self._unfinished.end(call):
            return  # it was given up
        with _Ending(call):
            if message is None:
                # The caller left, or sent more than may come: then the core has told it so already.
                call.fail(grpc.StatusCode.UNIMPLEMENTED, f"{method.path} takes exactly one request")
            answer = method.inline and method.inline(message, call)
            if answer is None:
                self._tasks.begin(method, call, message)
            else:
                call.answer(answer)


class _Ending(AbstractContextManager[None]):
    """Ends the call when its handler raises: otherwise its caller would wait for ever.

    No generator: from Python 3.13 on, its frame would keep the error, and with it the call, until garbage is collected.
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
