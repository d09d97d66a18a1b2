"""The right to freeze: clean partition 0 of a pipeline, as a consumer group assigns it."""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace_runtime.kafka import GroupConsumer
from headrace_runtime.kafka.producers import MembershipLost
from headrace_runtime.records import Place

KEEP_EVERY_S = 1.0
POLL_TIMEOUT_S = 0.05
AWAIT_TIMEOUT_S = 5.0


class Lease:
    """One partition: whoever owns it has the lease. Nothing is read through the group."""

    def __init__(self, consumer: GroupConsumer, place: Place) -> None:
        self.consumer = consumer
        self.place = place
        self._next_s = 0.0

    def awaited(self, until: Callable[[], bool]) -> bool:
        """Wait a while for the partition, or until that is true, and tell whether it is ours."""
        self.consumer.pause()
        self.consumer.poll(AWAIT_TIMEOUT_S, lambda: until() or self.place in self.consumer.assignment())
        return self.held()

    def held(self) -> bool:
        """Keep the membership alive, and tell whether the partition is ours."""
        self.consumer.pause()
        self.consumer.poll(POLL_TIMEOUT_S)
        return self.place in self.consumer.assignment()

    def keep(self) -> None:
        """Do the same during long work; quick however often it is called.

        Raises MembershipLost when the partition is not ours any more.
        """
        if time.monotonic() < self._next_s:
            return
        if not self.held():
            raise MembershipLost(f"{self.consumer.group}: partition {self.place[1]} was taken away during work")
        self._next_s = time.monotonic() + KEEP_EVERY_S
