"""Admission under overload: whether a call may wait for its turn, decided when it comes, and how many more to take.

A call is worth its work only when its answer comes in time. So the capacity of a queue is time, not places: a call is
admitted when the predicted wait leaves it enough of its deadline, and is refused at once when not. Who comes first is
served first. There is no clock, no thread and no transport in here: callers tell the time, in seconds of any clock
that only goes forward.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

BURST_SHARE = 0.5
"""Share of its remaining time that a call may wait in a queue that was empty a short while ago: a burst, which ends."""
STANDING_SHARE = 0.3
"""The share in a queue that has stood for as long as the call has left: work comes faster than it is done, and a longer
queue makes every answer later and none more."""
LEARNING = 1 / 32
"""Weight of the last measurement in the pace of work."""
SURPRISE = 8
"""A measurement counts at most as so many times the pace: in one call's time a burst may have been taken, or the
process may have stood still. Work that is slower from now on is learnt all the same, in some more calls."""


class Reason(Enum):
    """Why a call is refused."""

    LATE = "late"
    """Its deadline is over."""
    OVERLOADED = "overloaded"
    """It would wait too long, or too much waits already."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What may wait: so many calls, with so many bytes, and no call longer than `wait_s` seconds."""

    calls: int
    wait_s: float
    size_bytes: int = 2**62


class Admission:
    """Admits calls to one queue, whose work is done by `lanes` at a time. May be asked by several threads.

    Work is counted in units that the caller chooses, such as calls, or the seconds that a call should take; the pace is
    how many seconds of real time one unit takes, and is learnt.
    """

    def __init__(self, capacity: Capacity, lanes: int = 1, pace_s: float = 1.0) -> None:
        self._capacity = capacity
        self._lanes = lanes
        self.pace_s = pace_s
        self.calls = 0
        """Calls that were admitted and are not done."""
        self._work = 0.0
        self._size_bytes = 0
        self._queueing_since_s: float | None = None

    @property
    def wait_s(self) -> float:
        """Seconds that one call more would wait."""
        return self._work * self.pace_s / self._lanes if self.calls >= self._lanes else 0.0

    def refusal(self, work: float, size_bytes: int, left_s: float | None, now_s: float) -> Reason | None:
        """Return why a call may not wait, None when it may. `left_s` is the time to its deadline, None without one.

        A call that need not wait is refused only when its deadline is over: what was predicted may be wrong, and is
        learnt anew only from calls that are done.
        """
        if left_s is not None and left_s <= 0:
            return Reason.LATE
        if self.calls < self._lanes:
            return None
        capacity = self._capacity
        if self.calls >= capacity.calls or self._size_bytes + size_bytes > capacity.size_bytes:
            return Reason.OVERLOADED
        longest_s = capacity.wait_s
        if left_s is not None:
            longest_s = min(longest_s, self._share(left_s, now_s) * left_s - work * self.pace_s)
        return Reason.OVERLOADED if self.wait_s > longest_s else None

    def _share(self, left_s: float, now_s: float) -> float:
        since_s = self._queueing_since_s
        return BURST_SHARE if since_s is None or now_s - since_s < left_s else STANDING_SHARE

    def begin(self, work: float, size_bytes: int, now_s: float) -> None:
        """Count a call that was admitted."""
        self.calls += 1
        self._work += work
        self._size_bytes += size_bytes
        if self.calls > self._lanes and self._queueing_since_s is None:
            self._queueing_since_s = now_s

    def end(self, work: float, size_bytes: int) -> None:
        """Count a call no more: it was done or given up."""
        self.calls -= 1
        self._work = max(0.0, self._work - work) if self.calls else 0.0
        self._size_bytes -= size_bytes
        if self.calls <= self._lanes:
            self._queueing_since_s = None

    def learn(self, work: float, took_s: float) -> None:
        """Note how long some work took."""
        if work > 0:
            self.pace_s += LEARNING * (min(took_s / work, SURPRISE * self.pace_s) - self.pace_s)


REFUSALS_TO_NARROW = 32
"""Calls that were refused, less those that were admitted, after which an intake takes fewer: not yet in a burst of
calls that are admitted, among which some have too short a deadline."""


class Intake:
    """How many calls to take from a queue that costs nothing, such as that of gRPC's core, into the one of `admission`.

    To take a call and refuse it costs part of what an answer costs. So under overload, until the queue is empty, as
    many are taken as will have room, each time that half of the queue is done. The others stay where they are, and are
    cancelled there.
    """

    def __init__(self, admission: Admission, most: int) -> None:
        self._admission = admission
        self._most = most
        self._refusals = 0
        self._full_s = 0.0
        """The wait at which calls were refused; 0 while that was seldom."""

    def told(self, reason: Reason | None) -> None:
        """Note what the admission said of a call that was taken."""
        if reason is None:
            self._refusals = max(0, self._refusals - 1)
        elif reason is Reason.OVERLOADED:
            self._refusals = min(REFUSALS_TO_NARROW, self._refusals + 1)
            if self._refusals == REFUSALS_TO_NARROW:
                self._full_s = max(self._admission.wait_s, self._admission.pace_s)

    @property
    def room(self) -> int:
        """Calls to take now."""
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
    """Messages that have begun to arrive: at most `most` of them, each of which may hold memory.

    When there are so many, the oldest has to go for the next one, once it is `grace_s` seconds old. Messages that are
    sent without a pause are complete by then.
    """

    def __init__(self, most: int, grace_s: float) -> None:
        self._most = most
        self._grace_s = grace_s
        self._began_s: dict[KeyT, float] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._began_s)

    def begin(self, key: KeyT, now_s: float) -> None:
        """Count a message that is waited for."""
        self._began_s[key] = now_s

    def end(self, key: KeyT) -> bool:
        """Count it no more: it is there, or will never be. Return whether it was counted."""
        return self._began_s.pop(key, None) is not None

    @property
    def full(self) -> bool:
        """Whether one has to go before the next message may begin."""
        return len(self._began_s) >= self._most

    @property
    def due_s(self) -> float:
        """The time from which the next message may begin; 0 for at once."""
        if not self.full:
            return 0.0
        return next(iter(self._began_s.values())) + self._grace_s

    def overdue(self, now_s: float) -> KeyT | None:
        """Return the message that has to go for the next one; None when there is room, or none is old enough."""
        if not 0 < self.due_s <= now_s:
            return None
        return next(iter(self._began_s))
