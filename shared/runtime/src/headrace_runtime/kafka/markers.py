"""Commits past transaction markers at the end of a partition, so that lag counts only waiting records."""

from __future__ import annotations

import logging

from kafka.errors import KafkaError

from headrace_runtime.kafka.consumers import GroupConsumer
from headrace_runtime.records import Offsets, Place

logger = logging.getLogger(__name__)


class Markers:
    """Finds positions that have passed the markers after the last committed record.

    A marker follows the records of a transaction. It takes an offset, and consumers never see it. Without these commits
    a group that has processed everything would lag by one in each partition, and autoscalers would never scale to zero.
    """

    def __init__(self, consumer: GroupConsumer) -> None:
        self._consumer = consumer
        self._arrivals = consumer.arrivals()
        self._committed: dict[Place, int] = {}
        self._unknown: set[Place] = set()

    def committed(self, offsets: Offsets) -> None:
        """Record committed offsets."""
        self._committed.update(offsets)

    def passed(self) -> dict[Place, int]:
        """Return the positions to commit. Every record that the consumer has returned must be committed already."""
        self._ask()
        positions = self._consumer.positions()
        known = {place: offset for place, offset in self._committed.items() if place not in self._unknown}
        return {place: position for place, position in positions.items() if position > known.get(place, position)}

    def _ask(self) -> None:
        """Fetch the committed offsets of partitions that were assigned since."""
        self._unknown |= self._arrivals.new()
        self._unknown &= self._consumer.assignment()
        if not self._unknown:
            return
        try:
            found = self._consumer.committed(self._unknown)
        except KafkaError as error:
            logger.debug("%s: cannot tell what is committed: %r", self._consumer.group, error)
            return
        self.committed({place: offset or 0 for place, offset in found.items()})
        self._unknown.clear()
