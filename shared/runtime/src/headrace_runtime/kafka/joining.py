"""Joins a group while the partitions that its member keeps are read on.

A join lasts as long as the slowest member takes to notice it. kafka-python (3.0.12) reads nothing meanwhile, and loses
a join that is answered just after the poll that awaited it gave up. So joins run in the client's own thread here. Only
their last part, which changes the assignment, waits for the reader: nothing is taken away while it is being read.
"""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import ConsumerGroupMetadata

TAKE_TIMEOUT_S = 5.0
"""Longest wait for the last part of a join, which asks nobody."""
REST_S = 0.005


class Joining:
    """The joins of one consumer. Only for the thread that reads."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._coordinator = consumer._coordinator  # noqa: SLF001 - there is no public way to join beside polls
        self._complete = self._coordinator._on_join_complete_async  # noqa: SLF001
        self._coordinator._on_join_complete_async = self._complete_when_awaited  # noqa: SLF001
        # Polls ask it to join; they must neither wait for that nor join by themselves.
        self._coordinator.ensure_active_group = lambda timeout_ms=None: True
        self._subscription = consumer._subscription  # noqa: SLF001
        self._member_id = ""
        self._join: Any = None
        self._answered = False
        self._awaited = False

    def look(self) -> bool:
        """Start a join when one is needed, finish one that was answered, and tell whether one is under way.

        Raises KafkaError when the group does not take this member.
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

    def membership(self) -> ConsumerGroupMetadata:
        """Return the generation and the id under which this is a member now."""
        return self._coordinator.group_metadata()

    def owns(self, membership: ConsumerGroupMetadata) -> bool:
        """Tell whether what is assigned here belongs to a membership.

        A member that was thrown out gets another id as soon as it is let in again, and its assignment only later.
        """
        return bool(membership.generation_id >= 0 and membership.member_id == self._member_id)

    def close(self) -> None:
        """Hold up nothing any more."""
        self._awaited = True

    def _start(self) -> Any:
        return self._coordinator._manager.call_soon(self._coordinator.ensure_active_group_async)  # noqa: SLF001

    def _await(self) -> None:
        self._awaited = True
        deadline_s = time.monotonic() + TAKE_TIMEOUT_S
        while not self._join.is_done and time.monotonic() < deadline_s:
            time.sleep(REST_S / 5)

    async def _complete_when_awaited(self, *answer: Any) -> None:
        """Run in the client's thread: take over the assignment while the reader waits for that."""
        self._answered = True
        while not self._awaited:
            await self._coordinator._net.sleep(REST_S)  # noqa: SLF001
        _, member_id, *_ = answer
        if self._member_id != member_id:
            # kafka-python (3.0.12) goes on where it was when it learns only by joining that it had been thrown out.
            self._subscription.assign_from_subscribed([])
        await self._complete(*answer)
        self._member_id = member_id
