"""Turns: which of the calls that wait is served next."""

from __future__ import annotations

import threading
from bisect import insort
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Calls that wait, by priority and then by arrival. Safe for use by many threads; reads no clock.

    One level of priority is worth `level_s` seconds of waiting: whoever waits that much longer goes first, so that
    nobody waits for ever behind calls that are more urgent.
    """

    def __init__(self, level_s: float) -> None:
        self._level_s = level_s
        self._lock = threading.Lock()
        self._number = 0
        self._waiting: list[tuple[float, int, T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, call: T, priority: int, now_s: float) -> None:
        """Let a call wait that came now."""
        with self._lock:
            self._number += 1  # equals go by arrival, and calls are not compared
            insort(self._waiting, (now_s + priority * self._level_s, self._number, call))

    def next(self) -> T:
        """Return the call whose turn it is, which waits no longer. Raises IndexError where none waits."""
        with self._lock:
            return self._waiting.pop(0)[2]

    def leave(self, call: T) -> None:
        """Let a call wait no longer. Does nothing where it does not wait."""
        with self._lock:
            self._waiting = [each for each in self._waiting if each[2] is not call]
