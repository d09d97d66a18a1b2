"""Waiting for records with few wake-ups, so that an idle stream uses next to no CPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kafka import KafkaConsumer

from headrace_runtime.kafka import internals
from headrace_runtime.records import Polled, Record

LOOK_EVERY_S = 1.0
"""Seconds between two checks for an early end of a wait, unless `Patience.wake` is called."""
PAUSE_S = 0.1
"""Longest wait inside kafka-python while it looks up fetch positions, in seconds."""
BUSY_WAIT_MS, IDLE_WAIT_MS = 100, 5_000
"""Milliseconds for which the broker may delay an empty fetch. It answers at once when a record arrives."""
IDLE_AFTER_S = 3.0
"""Seconds without a record after which a stream counts as idle."""


def never() -> bool:
    """Return False. The default of `until`: no early end of a wait."""
    return False


class Patience:
    """The polls of one consumer.

    kafka-python (3.0.12) crosses to its own thread several times in each poll, and sends ten fetches a second. Here one
    fetch of an idle stream waits at the broker for seconds, and the reader waits for that fetch. A new record ends both
    waits. A busy stream keeps its short fetches, because a fetch in flight delays the first fetch of newly assigned or
    rewound partitions.
    """

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._fetcher = internals.fetcher_of(consumer)
        self._subscription = internals.subscription_of(consumer)
        self._came = threading.Event()
        self._last_s = time.monotonic()

    def wake(self) -> None:
        """Make a wait check at once whether it should end. Thread-safe."""
        self._came.set()

    def stir(self) -> None:
        """Fetch with short waits for some seconds, because records are expected or the positions have changed."""
        self._last_s = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether no record came for `IDLE_AFTER_S`. A fetch may then wait at the broker for seconds."""
        return time.monotonic() - self._last_s > IDLE_AFTER_S

    def poll(self, timeout_s: float, most: int, until: Callable[[], bool] = never) -> list[Record]:
        """Return at most `most` records. The list is empty after a time-out, or when `until` returns true."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            left_s = deadline_s - time.monotonic()
            if records := self._look(max(0.0, left_s), most):
                self.stir()
                return records
            if left_s <= 0 or not self._rest(deadline_s, until):
                return []

    def _look(self, left_s: float, most: int) -> list[Record]:
        # A poll that finds records sends the next fetch before it returns.
        idle = self.is_idle and not internals.has_fetched(self._fetcher)
        self._fetcher.config["fetch_max_wait_ms"] = IDLE_WAIT_MS if idle else BUSY_WAIT_MS
        # kafka-python looks up unknown fetch positions within the poll, which then needs time.
        knows = self._subscription.has_all_fetch_positions()
        polled = self._consumer.poll(0 if knows else int(min(left_s, PAUSE_S) * 1_000), most)
        return Polled({(partition.topic, partition.partition): found for partition, found in polled.items()})

    def _rest(self, deadline_s: float, until: Callable[[], bool]) -> bool:
        """Wait for the fetches in flight. Return False when `until` ended the wait, else True: poll again."""
        fetches = internals.fetches_in_flight(self._fetcher)
        for fetch in fetches:
            fetch.add_both(self._wake_for)
        if not fetches and self._subscription.fetchable_partitions():
            # No fetch could be sent: the broker is away, or the position is not known yet.
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
