"""Transaction markers at the end of a partition: read past, and committed, so that lag is the work that waits."""

from __future__ import annotations

import logging

from kafka.errors import KafkaError

from headrace_runtime.kafka.consumers import GroupConsumer
from headrace_runtime.messages import Offsets, Place

logger = logging.getLogger(__name__)


class Markers:
    """Finds positions that went past markers behind the last committed record.

    A message that was written in a transaction is followed by a marker, which takes an offset and is never handed out.
    A group that has done everything would stay behind by one in each partition, and what scales on lag would not rest.
    """

    def __init__(self, consumer: GroupConsumer) -> None:
        self._consumer = consumer
        self._committed: dict[Place, int] = {}
        self._unknown: set[Place] = set()

    def committed(self, offsets: Offsets) -> None:
        """Take note of what was committed."""
        self._committed.update(offsets)

    def passed(self) -> dict[Place, int]:
        """Return the positions to commit. Only for a consumer with nothing in hand: all it handed out is committed."""
        self._ask()
        positions = self._consumer.positions()
        known = {place: offset for place, offset in self._committed.items() if place not in self._unknown}
        return {place: position for place, position in positions.items() if position > known.get(place, position)}

    def _ask(self) -> None:
        """Ask what is committed of the partitions that have come since."""
        self._unknown |= self._consumer.arrived()
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
