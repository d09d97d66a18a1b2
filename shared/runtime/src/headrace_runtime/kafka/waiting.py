"""Waiting for records without waking up in between: an idle stream costs next to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import chain

from kafka import KafkaConsumer

from headrace_runtime.messages import Record

LOOK_EVERY_S = 1.0
"""How often a wait asks whether it should end early, when nobody wakes it."""
PAUSE_S = 0.1
"""Longest wait inside of kafka-python, while it finds out where to read."""
BUSY_WAIT_MS, IDLE_WAIT_MS = 100, 5_000
"""How long the broker may hold back a fetch that finds nothing. It answers at once when a record comes."""
IDLE_AFTER_S = 3.0
"""Seconds without a record after which a stream is idle."""


def never() -> bool:
    """Return False: the default of `until`."""
    return False


class Patience:
    """The polls of one consumer.

    kafka-python (3.0.12) crosses to its own thread several times in each poll, and asks the broker anew ten times a
    second. Here one fetch of an idle stream waits at the broker for seconds, and the reader waits for that fetch. What
    comes ends both waits. A busy stream keeps its short fetches: one that is on its way holds up a fetch of partitions
    that have just been assigned, or were rewound.
    """

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._fetcher = consumer._fetcher  # noqa: SLF001 - there is no public way to wait for a fetch
        self._subscription = consumer._subscription  # noqa: SLF001
        self._came = threading.Event()
        self._last_s = time.monotonic()

    def wake(self) -> None:
        """Make a wait ask at once whether it should end. For any thread."""
        self._came.set()

    def stir(self) -> None:
        """Fetch with short waits for a while: something will come, or has changed."""
        self._last_s = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come for a while, so that a fetch may wait at the broker for seconds."""
        return time.monotonic() - self._last_s > IDLE_AFTER_S

    def poll(self, timeout_s: float, most: int, until: Callable[[], bool] = never) -> list[Record]:
        """Return what has come, at most so many records; empty when nothing has within the time, or `until` is true."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            left_s = deadline_s - time.monotonic()
            if records := self._look(max(0.0, left_s), most):
                self.stir()
                return records
            if left_s <= 0 or not self._rest(deadline_s, until):
                return []

    def _look(self, left_s: float, most: int) -> list[Record]:
        # What a poll finds is followed by the next fetch before the poll returns.
        idle = self.is_idle and not self._fetcher._completed_fetches  # noqa: SLF001
        self._fetcher.config["fetch_max_wait_ms"] = IDLE_WAIT_MS if idle else BUSY_WAIT_MS
        # Where to read is found out within the poll, which then needs time.
        knows = self._subscription.has_all_fetch_positions()
        polled = self._consumer.poll(0 if knows else int(min(left_s, PAUSE_S) * 1_000), most)
        return list(chain.from_iterable(polled.values()))

    def _rest(self, deadline_s: float, until: Callable[[], bool]) -> bool:
        """Wait for the fetches that are on their way. Returns whether there is a reason to poll again."""
        fetches = list(self._fetcher._fetch_futures)  # noqa: SLF001
        for fetch in fetches:
            fetch.add_both(self._wake_for)
        if not fetches and self._subscription.fetchable_partitions():
            # None could be sent: the broker is away, or the position is not known yet.
            deadline_s = min(deadline_s, time.monotonic() + PAUSE_S)
        while not until():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return True
            if self._came.wait(min(left_s, LOOK_EVERY_S)):
                self._came.clear()
                return True
        return False

    def _wake_for(self, _answer: object) -> None:
        self._came.set()
