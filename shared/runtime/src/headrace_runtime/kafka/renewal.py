"""Topics that were deleted and created again: the broker's id of a topic tells one from the next of its name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from kafka import KafkaConsumer

from headrace_runtime.kafka import internals
from headrace_runtime.kafka.arrivals import Arrivals
from headrace_runtime.kafka.stamps import Stamp
from headrace_runtime.records import Place, Record, by_place

logger = logging.getLogger(__name__)

SILENCE_S = 0.25
"""Seconds without a poll after which the metadata is asked for again.

A fetch that waits at the broker fails when its topic is deleted. But none waits while records are handled, and to
delete, create and fill a topic takes about as long."""
REFRESH_TIMEOUT_S = 2.0
REFRESH_POLL_S = 0.002
REFRESH_REST_S = 30.0
"""Seconds without a wait after one in vain. Metadata stays to be refreshed for as long as any topic is missing."""

_ANY = "any"
"""Stands for the id of a topic when a position may be of any topic of its name."""


class Renewal:
    """Lets a consumer begin again with a topic that is another one of the same name.

    kafka-python (3.0.12) fetches by name: it goes on at the old position as soon as the new topic is that long, and the
    records before it are never read.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        arrivals: Arrivals,
        stamps: Callable[[Collection[Place]], Mapping[Place, Stamp]],
    ) -> None:
        """`arrivals` tells of the partitions that are assigned to the consumer, `stamps` of their committed offsets."""
        self._consumer = consumer
        self._arrivals = arrivals
        self._stamps = stamps
        self._cluster = internals.cluster_of(consumer)
        self._ids: dict[Place, str] = {}
        """The id of the topic to which the position in each partition belongs."""
        self._polled_s = time.monotonic()
        self._rests_until_s = 0.0

    def topic_id(self, topic: str) -> str:
        """Return the broker's id of the topic that the records of the last poll are of; empty when it does not say.

        The metadata may tell of the next topic of that name while these records are handled.
        """
        return self.topic_ids().get(topic, "")

    @property
    def cluster_id(self) -> str:
        """The id of the cluster; empty when it does not say."""
        return str(self._cluster.cluster_id or "")

    def topic_ids(self) -> dict[str, str]:
        """Return the ids of all topics, as `topic_id` does, by name."""
        return {topic: topic_id for (topic, _), topic_id in self._ids.items() if topic_id not in ("", _ANY)}

    def before_poll(self) -> None:
        """Have the metadata refreshed when nothing was polled for some time."""
        if time.monotonic() - self._polled_s > SILENCE_S:
            self._refresh()

    def after_poll(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records of the topics that positions belong to, and begin again with what is of others."""
        if arrived := self._arrivals.new():
            # Another member may have committed an offset of a new topic that this one has not heard of.
            self._refresh()
            self._ids |= self._ids_of(arrived)
        elif records:
            # The metadata is refreshed after errors: the topic may be another one by now.
            self._settle()
        before, self._ids = self._ids, {}
        anew: set[Place] = set()
        polled = by_place(records)
        for partition in self._consumer.assignment():
            place = (partition.topic, partition.partition)
            known, latest = before.get(place, ""), self._latest_id(partition.topic)
            if known and latest and known != latest:
                if known != _ANY:
                    logger.warning("%s:%s is of a topic that was made anew, and is read from its beginning", *place)
                self._consumer.seek_to_beginning(partition)
                anew.add(place)
            # Without an id records are handed out all the same: some brokers never tell one.
            self._ids[place] = latest or ("" if known == _ANY and place in polled else known)
        self._polled_s = time.monotonic()
        return [record for record in records if record.place not in anew] if anew else records

    def _ids_of(self, arrived: Collection[Place]) -> dict[Place, str]:
        """Return the id of the topic that the position in each assigned partition is of.

        What was polled may have been fetched before the topic was made anew, when no committed offset says otherwise.
        An offset without a stamp of this cluster was committed before there were stamps, or mirrored from another
        cluster, and is taken for one of the latest topic.
        """
        stamps = self._stamps(arrived)
        return {place: self._id_by(stamps[place], place[0]) if place in stamps else _ANY for place in arrived}

    def _id_by(self, stamp: Stamp, topic: str) -> str:
        is_known = stamp.topic_id and stamp.cluster_id == self.cluster_id
        return stamp.topic_id if is_known else self._latest_id(topic)

    def _latest_id(self, topic: str) -> str:
        return str(self._cluster.topic_id(topic) or "")

    def _refresh(self) -> None:
        self._cluster.request_update()
        self._settle()

    def _settle(self) -> None:
        """Wait for a refresh of the metadata that is under way."""
        began_s = time.monotonic()
        while self._cluster.need_update and time.monotonic() > self._rests_until_s:
            if time.monotonic() - began_s > REFRESH_TIMEOUT_S:
                self._rests_until_s = time.monotonic() + REFRESH_REST_S
            time.sleep(REFRESH_POLL_S)
