"""Detection of consumers and threads that make no progress."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Self, TypeVar

logger = logging.getLogger(__name__)

HUNG_EXIT_CODE = 70
"""Exit code of a process that ended itself because a call of the Kafka client never returned."""

LONGEST_STEP_S = 5.0
"""Largest part of the time between two checks that counts (seconds)."""

S = TypeVar("S", bound=Hashable)


@dataclass(slots=True)
class _Standing:
    state: object
    for_s: float = 0.0


class Watchdog(Generic[S]):
    """Finds subjects whose state has not changed for too long.

    Time is counted between checks, at most `LONGEST_STEP_S` for each. A process that was suspended, or that worked for
    long between two checks, is therefore not reported as stalled.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._last_s = clock()
        self._standing: dict[S, _Standing] = {}

    def look(self, states: Mapping[S, object]) -> list[S]:
        """Record the state of every subject that should make progress; return those unchanged for `limit_s` seconds.

        Subjects missing from `states` are forgotten.
        """
        now = self._clock()
        step, self._last_s = min(now - self._last_s, LONGEST_STEP_S), now
        before, self._standing = self._standing, {}
        for subject, state in states.items():
            known = before.get(subject)
            same = known is not None and known.state == state
            self._standing[subject] = _Standing(state, known.for_s + step if known and same else 0.0)
        return [subject for subject, standing in self._standing.items() if standing.for_s >= self.limit_s]

    def forget(self) -> None:
        """Forget every subject."""
        self._standing = {}


class HangWatch:
    """Ends the process when a thread has sent no heartbeat for too long; writes the stack of every thread to its log.

    Some calls of the Kafka client have no time-out. The supervisor starts the process again. One thread checks all
    watches of a process.
    """

    _watches: ClassVar[set[HangWatch]] = set()
    _thread: ClassVar[threading.Thread | None] = None
    _guard: ClassVar[threading.Lock] = threading.Lock()
    _changed: ClassVar[threading.Event] = threading.Event()
    """Set when a watch was added or removed, so that the thread looks again."""

    def __init__(self, name: str, limit_s: float) -> None:
        self._name = name
        self._watchdog: Watchdog[str] = Watchdog(limit_s)
        self.look_every_s = min(2.0, limit_s / 4)
        self._beats = 0

    def __enter__(self) -> Self:
        """Start the checks."""
        with self._guard:
            self._watches.add(self)
            if HangWatch._thread is None:
                HangWatch._thread = threading.Thread(target=self._run, name="hang watch", daemon=True)
                HangWatch._thread.start()
        self._changed.set()
        return self

    def __exit__(self, *_ended: object) -> None:
        """Stop the checks."""
        with self._guard:
            self._watches.discard(self)
            self._changed.set()

    def beat(self) -> None:
        """Record a heartbeat of the thread."""
        self._beats += 1

    @classmethod
    def _run(cls) -> None:
        while True:
            with cls._guard:
                cls._changed.clear()
                watches = list(cls._watches)
                if not watches:
                    cls._thread = None
                    return
            for watch in watches:
                watch.look()
            cls._changed.wait(min(watch.look_every_s for watch in watches))

    def look(self) -> None:
        """End the process when there were no heartbeats for too long."""
        if self._watchdog.look({self._name: self._beats}):
            logger.critical("%s hangs for %s s, ending the process", self._name, self._watchdog.limit_s)
            faulthandler.dump_traceback(all_threads=True)
            os._exit(HUNG_EXIT_CODE)
