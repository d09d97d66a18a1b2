"""Notices what stands still."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

logger = logging.getLogger(__name__)

HUNG_EXIT_CODE = 70
"""Exit code of a process that ended itself because a call of the Kafka client never returned."""

LONGEST_STEP_S = 5.0
"""Most that counts of the time between two looks."""

S = TypeVar("S", bound=Hashable)


@dataclass(slots=True)
class _Standing:
    state: object
    for_s: float = 0.0


class Watchdog(Generic[S]):
    """Tells which subjects have been in the same state for too long.

    Time is counted between looks, and no more than `LONGEST_STEP_S` for each: a process that was suspended, or whose
    work between two looks took long, is not taken for one that stands still.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._last_s = clock()
        self._standing: dict[S, _Standing] = {}

    def look(self, states: Mapping[S, object]) -> list[S]:
        """Take in the state of every subject that ought to move, and return those that have not for `limit_s` seconds.

        A subject that is left out is forgotten.
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
        """Begin anew."""
        self._standing = {}


class HangWatch:
    """Ends the process when a thread has not beaten for too long, and writes every thread's stack to its log.

    Some calls of the Kafka client have no limit of their own; the process that is started next begins anew.
    """

    def __init__(self, name: str, limit_s: float) -> None:
        self._name = name
        self._watchdog: Watchdog[str] = Watchdog(limit_s)
        self._look_every_s = min(2.0, limit_s / 4)
        self._beats = 0
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        """Begin to look."""
        threading.Thread(target=self._run, name=f"{self._name} watch", daemon=True).start()
        return self

    def __exit__(self, *_ended: object) -> None:
        """Stop looking."""
        self._stopping.set()

    def beat(self) -> None:
        """Tell that the thread lives."""
        self._beats += 1

    def _run(self) -> None:
        while not self._stopping.wait(self._look_every_s):
            if self._watchdog.look({self._name: self._beats}):
                logger.critical("%s hangs for %s s, ending the process", self._name, self._watchdog.limit_s)
                faulthandler.dump_traceback(all_threads=True)
                os._exit(HUNG_EXIT_CODE)
