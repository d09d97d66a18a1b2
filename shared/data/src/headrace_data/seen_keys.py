"""The keys that a partition has accepted, as far back as its window reaches."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace_data.batches import NO_TIME
from headrace_data.key_digests import Digests
from headrace_data.key_ring import Entries, KeyRing, Numbers, entries, repeat

_MOST: Final = 2**31 - 1
_NEVER: Final = -(2**62)


class SeenKeys:
    """The last `window` accepted keys.

    What was accepted since the last commit can be taken back, as when the transaction that tells of it is aborted.
    Restorable: the state is a function of the last `window` accepted keys, in order.
    """

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"expected a window of at least 1 key, got {window}")
        self.window = window
        self._kept = KeyRing(window)
        self._fresh: list[Digests] = []
        self._looked_in = KeyRing(_MOST)
        """The fresh keys, once there is something to look for among them."""

    def __len__(self) -> int:
        return min(self.window, self._kept.next - self._kept.first + sum(map(len, self._fresh)))

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the keys take."""
        return self._kept.size_bytes + self._looked_in.size_bytes + sum(digests.nbytes for digests in self._fresh)

    def accept(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Remember each key that is not among those remembered when its turn comes; return which these are.

        The result does not depend on how keys are divided into calls.
        """
        ordered = entries(digests)
        known = self._known(digests, ordered)
        accepted = np.ones(len(digests), np.bool_)
        if known or repeat(ordered):
            accepted = self._among(digests, known, in_turn=repeat(ordered))
        self._fresh.append(digests[accepted])
        return accepted

    def remember(self, digests: Digests) -> None:
        """Remember keys that were accepted before, oldest first."""
        self.rollback()
        self._kept.append(digests)

    def commit(self) -> None:
        """Keep what was accepted since the last commit."""
        if self._fresh:
            self._kept.append(np.concatenate(self._fresh))
            self.rollback()

    def rollback(self) -> None:
        """Forget what was accepted since the last commit."""
        self._fresh = []
        self._looked_in.forget_before(self._looked_in.next)

    def _known(self, digests: Digests, ordered: Entries) -> list[tuple[Numbers, Numbers]]:
        """Return rows whose keys were accepted before, and how many were accepted before each."""
        known = [self._kept.find(digests, ordered)]
        if self._fresh:
            self._looked_in.append(self._fresh[-1])
            rows, numbers = self._looked_in.find(digests, ordered)
            known.append((rows, numbers - self._looked_in.first + self._kept.next))
        return [(rows, numbers) for rows, numbers in known if len(rows)]

    def _among(self, digests: Digests, known: list[tuple[Numbers, Numbers]], *, in_turn: bool) -> npt.NDArray[np.bool_]:
        """Return which rows are new, of which some were accepted before or repeat each other."""
        clocks, now = np.full(len(digests), _NEVER), self._kept.next + sum(map(len, self._fresh))
        for rows, numbers in known:
            clocks[rows] = numbers
        new: npt.NDArray[np.bool_] = now - clocks > self.window
        # When a key may go out of the window while these rows are looked at, or comes again, its turn matters.
        if not in_turn and (new | (now + len(digests) - clocks <= self.window)).all():
            return new
        keys = list(zip(*digests.T.tolist(), strict=True))
        seen = dict(zip(keys, clocks.tolist(), strict=True))
        for row, key in enumerate(keys):
            new[row] = now - seen[key] > self.window
            if new[row]:
                seen[key] = now
                now += 1
        return new


class TimedKeys:
    """The keys that were accepted within the last `span` of event time, in microseconds; at most the last `most`.

    The clock is the newest event time of what was accepted, and a key counts from what the clock said when it was
    accepted: a late row is as new as the rows beside it. So keys are forgotten in the order in which they came.
    """

    def __init__(self, span: int, most: int = 10_000_000) -> None:
        self._span = span
        self._ring = KeyRing(most, timed=True)
        self._clock = NO_TIME

    def accept(self, digests: Digests, times: Numbers) -> npt.NDArray[np.bool_]:
        """Remember each key that is not among those remembered when its turn comes; return which these are."""
        ordered = entries(digests)
        rows, numbers = self._ring.find(digests, ordered)
        new = np.ones(len(digests), np.bool_)
        if len(rows) or repeat(ordered):
            clocks = np.full(len(digests), NO_TIME)
            clocks[rows] = self._ring.clocks(numbers)
            known = np.zeros(len(digests), np.bool_)
            known[rows] = True
            new = self._in_turn(digests, times, clocks, known)
        self.remember(digests[new], times[new])
        return new

    def remember(self, digests: Digests, times: Numbers) -> None:
        """Remember keys that were accepted before, oldest first."""
        if len(digests):
            clocks = np.maximum(np.maximum.accumulate(times), self._clock)
            self._clock = int(clocks[-1])
            self._ring.append(digests, clocks)
            since = bisect_left(range(self._ring.first, self._ring.next), self._clock - self._span, key=self._clock_of)
            self._ring.forget_before(self._ring.first + since)

    def _clock_of(self, number: int) -> int:
        return int(self._ring.clocks(np.array([number]))[0])

    def _in_turn(
        self, digests: Digests, times: Numbers, clocks: Numbers, known: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        keys, now = list(zip(*digests.T.tolist(), strict=True)), self._clock
        seen = {key: clock for key, clock, is_known in zip(keys, clocks.tolist(), known, strict=True) if is_known}
        new = np.zeros(len(keys), np.bool_)
        for row, (key, time) in enumerate(zip(keys, times.tolist(), strict=True)):
            moment = max(now, time)
            if key not in seen or moment - seen[key] > self._span:
                new[row] = True
                seen[key] = now = moment
        return new
