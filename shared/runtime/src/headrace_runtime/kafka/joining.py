"""Joins of a consumer group that leave the member reading the partitions it keeps.

A join lasts until the slowest member notices the rebalance. kafka-python (3.0.12) reads nothing meanwhile, and loses a
join that is answered just after the poll that awaited it timed out. Joins therefore run in the client's own thread.
Only their last step, which changes the assignment, waits for the reader: no partition is revoked while it is read.
"""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import ConsumerGroupMetadata

from headrace_runtime.kafka import internals

TAKE_TIMEOUT_S = 5.0
"""Longest wait for the last step of a join (seconds), which needs no broker."""
REST_S = 0.005


class Joining:
    """The joins of one consumer. Only the reading thread may call it."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._coordinator = internals.coordinator_of(consumer)
        self._complete = internals.joins_end_in(self._coordinator, self._complete_when_awaited)
        self._subscription = internals.subscription_of(consumer)
        self._member_id = ""
        self._join: Any = None
        self._answered = False
        self._awaited = False

    def look(self) -> bool:
        """Start a join when it is needed, finish an answered join, and return whether a join is in progress.

        Raises KafkaError when the group refuses this member.
        """
        while True:
            if self._join is None:
                if not self._coordinator.need_rejoin():
                    return False
                self._join = self._start()
            if self._answered:
                self._await()
            if not self._join.is_done:
                return True
            join, self._join = self._join, None
            self._answered = self._awaited = False
            if join.exception is not None:
                raise join.exception

    def is_due(self) -> bool:
        """Tell whether a join is needed: `look` starts it."""
        return bool(self._coordinator.need_rejoin())

    def membership(self) -> ConsumerGroupMetadata:
        """Return the generation and the member id of the current membership."""
        return self._coordinator.group_metadata()

    def owns(self, membership: ConsumerGroupMetadata) -> bool:
        """Return whether the local assignment belongs to the current membership.

        An expelled member gets a new member id as soon as it rejoins, and its assignment only later.
        """
        return bool(membership.generation_id >= 0 and membership.member_id == self._member_id)

    def close(self) -> None:
        """Release the client's thread."""
        self._awaited = True

    def _start(self) -> Any:
        return internals.begin_join(self._coordinator)

    def _await(self) -> None:
        self._awaited = True
        deadline_s = time.monotonic() + TAKE_TIMEOUT_S
        while not self._join.is_done and time.monotonic() < deadline_s:
            time.sleep(REST_S / 5)

    async def _complete_when_awaited(self, *answer: Any) -> None:
        """Run in the client's thread: apply the assignment while the reader waits."""
        self._answered = True
        while not self._awaited:
            await internals.sleep_in_client(self._coordinator, REST_S)
        _, member_id, *_ = answer
        if self._member_id != member_id:
            # kafka-python (3.0.12) keeps its positions when it learns only from a join that it was expelled.
            self._subscription.assign_from_subscribed([])
        await self._complete(*answer)
        self._member_id = member_id
