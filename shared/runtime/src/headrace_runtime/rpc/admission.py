"""Admission under overload: decides on arrival whether a call may wait, and how many more calls to take.

An answer after the deadline is wasted work. The capacity of a queue is therefore measured in time, not in places. A
call is admitted when the predicted wait leaves enough of the time to its deadline, and is otherwise refused at once.
Admitted calls are served in order of priority, and of arrival among equals (`turns.py`). The module is pure: no clock,
no thread, no transport. Callers pass the time, in seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from headrace_runtime.priorities import LAST, NORMAL

BURST_SHARE = 0.5
"""Share of its remaining time that a call may wait in a queue that was empty a short while ago. Such a burst ends."""
STANDING_SHARE = 0.3
"""The share in a standing queue: one not empty for as long as the call's remaining time. Work then arrives faster than
it is done. A longer queue would delay every answer, and yield no further one."""
LEARNING = 1 / 32
"""Weight of the latest measurement in the average pace of work."""
SURPRISE = 8
"""Upper limit of one measurement, in multiples of the pace. The time of one call may include the arrival of a burst, or
a pause of the process. A lasting slowdown is still learnt, over some more calls."""


class Reason(Enum):
    """The reason for a refusal."""

    LATE = "late"
    """The deadline of the call has passed."""
    OVERLOADED = "overloaded"
    """The call would wait too long, or the queue is full."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The limits of a queue: its calls, their bytes together, and `wait_s`, the longest wait of a call in seconds."""

    calls: int
    wait_s: float
    size_bytes: int = 2**62


class Admission:
    """Admits calls to one queue, which `lanes` workers serve at a time. May be called from several threads.

    Work is counted in units of the caller's choice, such as calls, or the expected seconds of a call. The pace is the
    real time of one unit, in seconds. It is learnt from measurements.
    """

    def __init__(self, capacity: Capacity, lanes: int = 1, pace_s: float = 1.0) -> None:
        self._capacity = capacity
        self.lanes = lanes
        """Workers; may be set to another number at any time."""
        self.pace_s = pace_s
        self.calls = 0
        """Number of admitted calls that have not ended."""
        self._work = [0.0] * LAST
        """Of the calls of each priority, from the most urgent on."""
        self._size_bytes = 0
        self._queueing_since_s: float | None = None

    @property
    def wait_s(self) -> float:
        """Predicted wait of one further call of normal priority, in seconds."""
        return self.wait_of(NORMAL)

    def wait_of(self, priority: int) -> float:
        """Return the predicted wait of one further call of a priority, in seconds: until all others are served.

        Calls of less priority do not count, but for those that are being served: a worker has to finish one of them.
        """
        if self.calls < self.lanes:
            return 0.0
        ahead = max(sum(self._work[:priority]), sum(self._work) / self.calls)
        return ahead * self.pace_s / self.lanes

    def refusal(
        self, work: float, size_bytes: int, left_s: float | None, now_s: float, priority: int = NORMAL
    ) -> Reason | None:
        """Return the reason to refuse a call; None admits it. `left_s` is the time to its deadline, None without one.

        A call that need not wait is refused only after its deadline. The prediction may be wrong, and only completed
        calls can correct it.
        """
        if left_s is not None and left_s <= 0:
            return Reason.LATE
        if self.calls < self.lanes:
            return None
        capacity = self._capacity
        if self.calls >= capacity.calls or self._size_bytes + size_bytes > capacity.size_bytes:
            return Reason.OVERLOADED
        return Reason.OVERLOADED if self.wait_of(priority) > self._longest_s(work, left_s, now_s) else None

    def strain(self, work: float, left_s: float | None, now_s: float) -> float:
        """Return how near a call is to being refused: 0 where it need not wait, from 1 on where it would be refused.

        That is the larger of two shares: of the predicted wait in the longest that the call is admitted with, and of
        the calls that wait in those that may. A call that could not be answered in time by an idle server has no say.
        """
        if self.calls < self.lanes or (left_s is not None and left_s <= work * self.pace_s):
            return 0.0
        longest_s = self._longest_s(work, left_s, now_s)
        waiting = self.wait_s / longest_s if longest_s > 0 else math.inf
        return max(waiting, self.calls / self._capacity.calls)

    def _longest_s(self, work: float, left_s: float | None, now_s: float) -> float:
        """Return the longest predicted wait with which a call is admitted, in seconds."""
        longest_s = self._capacity.wait_s
        if left_s is None:
            return longest_s
        return min(longest_s, self._share(left_s, now_s) * left_s - work * self.pace_s)

    def _share(self, left_s: float, now_s: float) -> float:
        since_s = self._queueing_since_s
        return BURST_SHARE if since_s is None or now_s - since_s < left_s else STANDING_SHARE

    def begin(self, work: float, size_bytes: int, now_s: float, priority: int = NORMAL) -> None:
        """Count an admitted call."""
        self.calls += 1
        self._work[priority - 1] += work
        self._size_bytes += size_bytes
        if self.calls > self.lanes and self._queueing_since_s is None:
            self._queueing_since_s = now_s

    def end(self, work: float, size_bytes: int, priority: int = NORMAL) -> None:
        """Stop counting a call that was completed or cancelled."""
        self.calls -= 1
        if self.calls:
            self._work[priority - 1] = max(0.0, self._work[priority - 1] - work)
        else:
            self._work = [0.0] * LAST
        self._size_bytes -= size_bytes
        if self.calls <= self.lanes:
            self._queueing_since_s = None

    def learn(self, work: float, took_s: float) -> None:
        """Learn the pace from completed work: `took_s` seconds for `work` units."""
        if work > 0:
            self.pace_s += LEARNING * (min(took_s / work, SURPRISE * self.pace_s) - self.pace_s)


REFUSALS_TO_NARROW = 32
"""Refused calls minus admitted calls after which an intake takes fewer calls. A burst of admitted calls, some of them
with too short a deadline, stays below it."""


class Intake:
    """The number of calls to take from an outer queue, such as that of gRPC's core, into the queue of `admission`.

    Calls in the outer queue cost nothing. Taking a call and refusing it costs a part of an answer. Under overload, the
    intake therefore takes calls only when half of the queue is done, and only as many as fit. The other calls stay in
    the outer queue, which cancels them. This ends when the queue is empty.
    """

    def __init__(self, admission: Admission, most: int) -> None:
        self._admission = admission
        self._most = most
        self._refusals = 0
        self._full_s = 0.0
        """Predicted wait at which calls were refused, in seconds; 0 while refusals are rare."""

    def told(self, reason: Reason | None) -> None:
        """Note the decision of the admission on a taken call; None means admitted."""
        if reason is None:
            self._refusals = max(0, self._refusals - 1)
        elif reason is Reason.OVERLOADED:
            self._refusals = min(REFUSALS_TO_NARROW, self._refusals + 1)
            if self._refusals == REFUSALS_TO_NARROW:
                self._full_s = max(self._admission.wait_s, self._admission.pace_s)

    @property
    def room(self) -> int:
        """Number of calls to take now."""
        admission = self._admission
        if not admission.calls:
            self._full_s = 0.0
        if not self._full_s:
            return self._most
        half_s = self._full_s / 2
        if admission.wait_s > half_s:
            return 0
        return max(1, min(self._most, int(half_s / admission.pace_s)))


KeyT = TypeVar("KeyT", bound=Hashable)


class Unfinished(Generic[KeyT]):
    """Messages that have begun to arrive and are not complete. At most `most` of them may hold memory.

    When there are `most`, the next message replaces the oldest once that is `grace_s` seconds old. Messages sent
    without a pause are complete by then.
    """

    def __init__(self, most: int, grace_s: float) -> None:
        self._most = most
        self._grace_s = grace_s
        self._began_s: dict[KeyT, float] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._began_s)

    def begin(self, key: KeyT, now_s: float) -> None:
        """Count a message that is now awaited."""
        self._began_s[key] = now_s

    def end(self, key: KeyT) -> bool:
        """Stop counting a message that is complete or was cancelled. Return whether it was counted."""
        return self._began_s.pop(key, None) is not None

    @property
    def full(self) -> bool:
        """Whether a message must be dropped before the next one may begin."""
        return len(self._began_s) >= self._most

    @property
    def due_s(self) -> float:
        """Time from which the next message may begin, in seconds of the caller's clock; 0 means at once."""
        if not self.full:
            return 0.0
        return next(iter(self._began_s.values())) + self._grace_s

    def overdue(self, now_s: float) -> KeyT | None:
        """Return the message to drop for the next one; None when there is room, or no message is old enough."""
        if not 0 < self.due_s <= now_s:
            return None
        return next(iter(self._began_s))
