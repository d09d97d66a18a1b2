"""Gaps: records that a topic's retention deleted before they were read."""

from __future__ import annotations

import logging
import queue
from collections.abc import Collection
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition
from prometheus_client import Counter

from headrace_runtime.kafka import internals
from headrace_runtime.records import Place

logger = logging.getLogger(__name__)

BEGINNING_TIMEOUT_MS = 30_000

DELETED_UNREAD = Counter(
    "headrace_records_deleted_unread",
    "Offsets of a topic that were deleted before they were read; transaction markers count.",
    ["topic"],
)


class Gap(NamedTuple):
    """A range of deleted offsets in one partition."""

    place: Place
    start: int
    """First offset that was not read."""
    end: int
    """First offset that still exists."""

    def __str__(self) -> str:
        topic, partition = self.place
        return f"{topic}:{partition}:{self.start}-{self.end - 1}"

    @property
    def reason(self) -> str:
        """The cause of the gap, in words for a user."""
        return (
            f"{self} was deleted before it was read: the topic's retention ended while nobody read it, "
            "or its records were deleted by hand"
        )


class Gaps:
    """Detects gaps: a consumer had to reset its position because the log now begins after it."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._lost: queue.SimpleQueue[tuple[Any, int]] = queue.SimpleQueue()
        self._found: list[Gap] = []
        self._reset = internals.resets_go_to(consumer, self._note)

    def look(self, assigned: Collection[Place]) -> None:
        """Log, count and keep the new gaps of the assigned partitions.

        Call it right after each poll, because records after a gap must not be handled before the gap. Raises KafkaError
        when the broker does not return the beginning of a log.
        """
        while not self._lost.empty():
            partition, offset = self._lost.get()
            place = (partition.topic, partition.partition)
            if place in assigned and (gap := self._gap(place, offset)):
                logger.warning("%s", gap.reason)
                DELETED_UNREAD.labels(place[0]).inc(gap.end - gap.start)
                self._found.append(gap)

    def taken(self) -> list[Gap]:
        """Return the gaps found since the last call."""
        found, self._found = self._found, []
        return found

    def _note(self, partition: TopicPartition, *strategy: Any) -> None:
        position = internals.position_in(self._consumer, partition)
        if position is not None and not strategy:
            self._lost.put((partition, position.offset))
        self._reset(partition, *strategy)

    def _gap(self, place: Place, offset: int) -> Gap | None:
        found = self._consumer.beginning_offsets([TopicPartition(*place)], timeout_ms=BEGINNING_TIMEOUT_MS)
        beginning = found[TopicPartition(*place)]
        if beginning > offset:
            return Gap(place, offset, beginning)
        logger.warning(
            "%s:%s has no offset %s any more: it was made anew, and is read from %s", *place, offset, beginning
        )
        return None
