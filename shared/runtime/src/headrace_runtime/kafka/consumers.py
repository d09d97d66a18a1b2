"""Kafka consumers that are members of a consumer group."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from prometheus_client import Counter

from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka import internals
from headrace_runtime.kafka.arrivals import Arrivals, Assignments
from headrace_runtime.kafka.assignor import TruthfulAssignor
from headrace_runtime.kafka.decoding import QuickRecords
from headrace_runtime.kafka.ends import Ends
from headrace_runtime.kafka.gaps import Gap, Gaps
from headrace_runtime.kafka.joining import REST_S, Joining
from headrace_runtime.kafka.progress import Progress
from headrace_runtime.kafka.renewal import Renewal
from headrace_runtime.kafka.stamps import Membership, Stamp
from headrace_runtime.kafka.waiting import Patience, never
from headrace_runtime.kafka.watchdog import Watchdog
from headrace_runtime.records import Offsets, Place, Record, by_place
from headrace_runtime.settings import KafkaSettings

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""Longest interval between two checks that a consumer makes progress (seconds)."""
ENDS_TIMEOUT_MS = 2_000
ANSWER_TIMEOUT_MS = 60_000
"""Longest wait for an offset of a partition (ms); without a limit the client never returns after some failures."""
METADATA_AGE_MS = 30_000
"""Age (ms) at which a client requests the cluster's metadata again."""

CONSUMERS_STALLED = Counter(
    "headrace_consumer_stalled", "Consumers that were given up because they stood still.", ["group"]
)

READING: dict[str, Any] = {
    "isolation_level": "read_committed",
    "enable_auto_commit": False,
    "allow_auto_create_topics": False,
    "max_partition_fetch_bytes": 8 * 1024 * 1024,
    "retry_backoff_ms": 20,
    "metrics_enabled": False,
    # A producers' topic may get more partitions, or be made anew, at any time.
    "metadata_max_age_ms": METADATA_AGE_MS,
}


_FETCHING: dict[str, Any] = {
    # Fetched batches are compressed and many times larger in memory, which a backlog must not fill.
    "max_partition_fetch_bytes": 1024 * 1024,
    "fetch_max_bytes": 4 * 1024 * 1024,
}
"""Largest fetch of a group member (bytes). A larger message is still fetched, alone."""


class Stalled(Unavailable):
    """A consumer makes no progress or has left its group; the process must restart."""


class GroupConsumer:
    """A member of a consumer group, static unless it leaves. Not thread-safe.

    The consumer commits no offsets. The producer's transaction commits the offsets of the records it processed.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        topics: Sequence[str],
        instance: str,
        max_records: int = 2_000,
        partitions: int = sys.maxsize,
        leaves: bool = False,
    ) -> None:
        """Read the first so many `partitions` of each topic; those beyond are owned, and rest.

        A member that `leaves` gives its partitions back when it closes: no instance of its name may come again.
        """
        self.group = group
        self._partitions = partitions
        self.max_records = max_records
        """Largest number of messages that a poll returns."""
        self._moving: Watchdog[Place] = Watchdog(settings.kafka_stall_s)
        self._member: Watchdog[str] = Watchdog(2 * settings.kafka_session_timeout_ms / 1_000)
        self._look_every_s = min(LOOK_EVERY_S, settings.kafka_stall_s / 4)
        self._look_s = time.monotonic()
        self._known: Mapping[str, Collection[int]] = {}
        self._ends = Ends(settings)
        self._consumer = _connect(settings, group, instance, leaves=leaves)
        self._patience = Patience(self._consumer)
        self._assignments = Assignments(self._patience.stir)
        self._mend()
        internals.decode_with(self._consumer, QuickRecords)
        self._gaps = Gaps(self._consumer)
        self._renewal = Renewal(self._consumer, self.arrivals(), self._stamps)
        self._progress = Progress.of(group)
        self._consumer.subscribe(topics, listener=self._assignments)
        self._joining = Joining(self._consumer)
        self._membership = self._joining.membership()

    def _mend(self) -> None:
        internals.claim_owned(self._consumer, TruthfulAssignor.name, self._owned)
        # kafka-python (3.0.12) caches an offset that was requested in an earlier membership until it is fetched. It
        # may then be older than the offset that another member has committed since.
        self._assignments.forget_offsets = internals.offsets_forgotten_by(self._consumer)

    def wake(self) -> None:
        """Make a poll ask at once whether it should end. For any thread."""
        self._patience.wake()

    def poll(self, timeout_s: float, until: Callable[[], bool] = never) -> Sequence[Record]:
        """Return what has come, in order within each partition; empty when nothing has within the time.

        During a rebalance, a poll returns records of the partitions that this member keeps. `until` ends a poll early
        when it is true: it is asked every second, and after `wake`. Raises Stalled when committed records wait but none
        arrive, or when the group has expelled this member.
        """
        if time.monotonic() - self._look_s > self._look_every_s:
            self._look()
            self._look_s = time.monotonic()
        deadline_s = time.monotonic() + timeout_s
        while True:
            joins = self._joining.look()
            left_s = max(0.0, deadline_s - time.monotonic())
            if records := self._poll(0.0 if joins else left_s, lambda: until() or self._joining.is_due()):
                return records
            if time.monotonic() >= deadline_s or until():
                return []
            time.sleep(min(REST_S, left_s))

    def _poll(self, timeout_s: float, until: Callable[[], bool]) -> Sequence[Record]:
        membership = self._joining.membership()
        if not self._joining.owns(membership):
            return []
        self._renewal.before_poll()
        polled = self._patience.poll(timeout_s, self.max_records, until)
        records = self._unprocessed(self._let_rest(self._renewal.after_poll(polled)))
        self._gaps.look(self.assignment())
        self._membership = membership
        if records and not self._joining.owns(self._joining.membership()):
            # The group expelled this member meanwhile: another may own the partitions by now.
            self.rewind(records)
            return []
        return records

    def _let_rest(self, polled: Sequence[Record]) -> Sequence[Record]:
        """Return the records of the partitions that are read, and read those of the others later."""
        beyond = {place: found for place, found in by_place(polled).items() if place[1] >= self._partitions}
        for place, found in beyond.items():
            self._consumer.pause(TopicPartition(*place))
            self._consumer.seek(TopicPartition(*place), found[0].offset)
            logger.info("%s: %s:%s rests until its pipeline has grown", self.group, *place)
        return [record for record in polled if record.place not in beyond] if beyond else polled

    def _unprocessed(self, polled: Sequence[Record]) -> Sequence[Record]:
        """Return the records of partitions that do not begin before what was committed; go on there in the others."""
        behind = self._progress.behind(polled, self.topic_id)
        for place, offset in behind.items():
            logger.warning(
                "%s: %s:%s goes on at offset %s, which was committed; the broker told of an older one",
                *(self.group, *place, offset),
            )
            self._consumer.seek(TopicPartition(*place), offset)
        return [record for record in polled if record.place not in behind] if behind else polled

    def _join_for_more(self) -> None:
        """Ask for partitions that nobody may own: a topic has grown, perhaps before this member came back.

        Only the leader's join has partitions shared out anew. The broker gives a static member what it had, and
        kafka-python (3.0.12) watches for more only in a member that knows that it leads.
        """
        known = internals.known_partitions(self._consumer)
        everything = {(topic, number) for topic, numbers in known.items() for number in numbers}
        if known != self._known and not self._joining.look():
            self._known = known
            if everything != self.assignment():
                internals.coordinator_of(self._consumer).request_rejoin()

    def _look(self) -> None:
        """Raise Stalled when the consumer has made no progress, or was no member, for too long."""
        self._join_for_more()
        # Another process joined with our instance id. Heartbeats stop, and polls return nothing without an error.
        silent = internals.is_fenced(self._consumer)
        if self._member.look({self.group: silent} if silent else {}):
            self._give_up(f"is no member of the group any more, for {self._member.limit_s:.0f} s")
        # A rebalance may wait for a busy member, and no records are read until it ends.
        if stalled := self._moving.look({} if self._joining.look() else self._behind()):
            self._give_up(f"has not moved for {self._moving.limit_s:.0f} s though there is something: {stalled}")

    def _give_up(self, why: str) -> None:
        CONSUMERS_STALLED.labels(self.group).inc()
        raise Stalled(f"{self.group}: this consumer {why}")

    def _behind(self) -> dict[Place, int | None]:
        """Return the positions of the partitions in which committed records wait to be read."""
        reading = self._consumer.assignment() - self._consumer.paused()
        try:
            ends = self._ends_of(reading)
            # An unknown position counts as one without progress.
            positions = {partition: internals.position_in(self._consumer, partition) for partition in ends}
        except (KafkaError, KeyError) as error:
            logger.debug("%s: cannot tell how far behind: %r", self.group, error)
            return {}
        offsets = {partition: position and position.offset for partition, position in positions.items()}
        return {
            (partition.topic, partition.partition): offset
            for partition, offset in offsets.items()
            if offset is None or offset < ends[partition]
        }

    def _ends_of(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        places = [(partition.topic, partition.partition) for partition in partitions]
        return {TopicPartition(*place): end for place, end in self._ends.of(places, ENDS_TIMEOUT_MS).items()}

    def rewind(self, records: Iterable[Record]) -> None:
        """Seek back to these records in the partitions that this member still owns."""
        assigned = self._consumer.assignment()
        for place, found in by_place(records).items():
            if TopicPartition(*place) in assigned:
                self._consumer.seek(TopicPartition(*place), min(record.offset for record in found))
        self._moving.forget()

    def advance(self, offsets: Offsets) -> None:
        """Seek to these offsets in the partitions that this member still owns."""
        assigned = self._consumer.assignment()
        for place, offset in offsets.items():
            if TopicPartition(*place) in assigned:
                self._consumer.seek(TopicPartition(*place), offset)

    def _owned(self) -> Collection[TopicPartition]:
        # An expelled member owns no partition any more.
        lost = self._consumer.group_metadata().generation_id < 0
        return () if lost else self._consumer.assignment()

    def assignment(self) -> set[Place]:
        """Return the partitions that this member owns."""
        return {(partition.topic, partition.partition) for partition in self._consumer.assignment()}

    def arrivals(self) -> Arrivals:
        """Return a reader of this member's assignments, from the first one on."""
        return Arrivals(self._assignments, self.assignment)

    def topic_id(self, topic: str) -> str:
        """Return the broker's id of the topic that the records of the last poll are of; empty when it does not say."""
        return self._renewal.topic_id(topic)

    def gaps(self) -> list[Gap]:
        """Return what was deleted before it could be read, as far as polls have met it since the last call."""
        return self._gaps.taken()

    def seek(self, place: Place, offset: int) -> None:
        """Go on reading a partition of ours at this offset."""
        self._consumer.seek(TopicPartition(*place), offset)

    def committed(self, places: Collection[Place]) -> dict[Place, int | None]:
        """Return the group's committed offset of each partition, None where there is none."""
        found = self._committed(places)
        return {place: found[place].offset if place in found else None for place in places}

    def positions(self) -> dict[Place, int]:
        """Return the next offset to read of each partition that this member owns, where it is known."""
        found = internals.positions_of(self._consumer)
        positions = {(each.topic, each.partition): position for each, position in found.items()}
        return {place: position.offset for place, position in positions.items() if position is not None}

    def notes(self, places: Collection[Place]) -> dict[Place, str]:
        """Return the note at the group's committed offset of each partition; empty without one."""
        stamps = self._stamps(places)
        return {place: stamps[place].note if place in stamps else "" for place in places}

    def _stamps(self, places: Collection[Place]) -> dict[Place, Stamp]:
        return {place: Stamp.read(committed.metadata) for place, committed in self._committed(places).items()}

    def _committed(self, places: Collection[Place]) -> dict[Place, Any]:
        """Return the offset and the metadata that the group committed for each partition, where it has."""
        wanted = [TopicPartition(*place) for place in places]
        found = internals.coordinator_of(self._consumer).fetch_committed_offsets(wanted, ANSWER_TIMEOUT_MS)
        return {(partition.topic, partition.partition): committed for partition, committed in found.items()}

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the last stable offset of each partition. Raises KafkaError when the broker does not answer."""
        return self._ends.of(places, ANSWER_TIMEOUT_MS)

    def pause(self) -> None:
        """Pause every assigned partition. Polls keep the membership alive."""
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Resume every paused partition."""
        self._consumer.resume(*self._consumer.paused())

    def membership(self) -> Membership:
        """Return that with which a transaction commits offsets for this member, and for no stale member.

        The generation may have changed since the last poll; the member keeps its partitions until the next poll. But a
        member that was expelled and has rejoined has a new member id, and others may have owned its partitions.
        """
        membership = self._joining.membership()
        current = membership if membership.member_id == self._membership.member_id else self._membership
        return Membership(current, self._renewal.cluster_id, self._renewal.topic_ids())

    def close(self) -> None:
        """Close the consumer. A static member keeps its partitions until the session times out, another leaves."""
        self._joining.close()
        try:
            self._ends.close()
        finally:
            self._consumer.close(autocommit=False)


def _connect(settings: KafkaSettings, group: str, instance: str, *, leaves: bool) -> KafkaConsumer:
    return KafkaConsumer(
        group_id=group,
        group_instance_id=None if leaves else f"{group}.{instance}",
        client_id=f"{group}.{instance}",
        auto_offset_reset="earliest",
        partition_assignment_strategy=[TruthfulAssignor],
        session_timeout_ms=settings.kafka_session_timeout_ms,
        heartbeat_interval_ms=min(3_000, settings.kafka_session_timeout_ms // 3),
        # Restoring a state may take minutes on a busy machine; HangWatch ends a loop that hangs long before this.
        max_poll_interval_ms=600_000,
        **READING | _FETCHING,
        **settings.kafka_client(),
    )
