"""A reader of a range of the log, without a consumer group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self

from kafka import KafkaConsumer, TopicPartition

from headrace_runtime.errors import NotFound, Unavailable
from headrace_runtime.kafka import internals
from headrace_runtime.kafka.consumers import ANSWER_TIMEOUT_MS, READING
from headrace_runtime.kafka.decoding import QuickRecords
from headrace_runtime.kafka.ends import Ends
from headrace_runtime.kafka.waiting import Patience, never
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings


class LogReader:
    """Reads committed records from given offsets, without a consumer group. Not thread-safe."""

    def __init__(self, settings: KafkaSettings, name: str, bootstrap_timeout_ms: int = 30_000) -> None:
        """Wait at most `bootstrap_timeout_ms` for the first broker to answer."""
        self._consumer = KafkaConsumer(
            client_id=name,
            group_id=None,
            auto_offset_reset="earliest",
            bootstrap_timeout_ms=bootstrap_timeout_ms,
            **READING,
            **settings.kafka_client(),
        )
        internals.decode_with(self._consumer, QuickRecords)
        self._patience = Patience(self._consumer)
        self._ends = Ends(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ended: object) -> None:
        self.close()

    def partitions(self, topic: str) -> list[Place]:
        """Return the partitions of a topic. Raises NotFound when the topic does not exist."""
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise NotFound(f"topic {topic} does not exist")
        return [(topic, number) for number in sorted(numbers)]

    def start_at(self, starts: Mapping[Place, int | None]) -> None:
        """Assign these partitions, and seek to these offsets. None means the beginning of a partition."""
        partitions = {TopicPartition(*place): start for place, start in starts.items()}
        self._consumer.assign(list(partitions))
        self._patience.stir()
        for partition, start in partitions.items():
            if start is None:
                self._consumer.seek_to_beginning(partition)
            else:
                self._consumer.seek(partition, start)

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the last stable offset of each partition. Records of open transactions lie after it."""
        if self._patience.is_idle:
            return self._ends.of(places, ANSWER_TIMEOUT_MS)
        ends = self._consumer.end_offsets([TopicPartition(*place) for place in places], timeout_ms=ANSWER_TIMEOUT_MS)
        return {(partition.topic, partition.partition): end for partition, end in ends.items()}

    def beginnings(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the first offset that each partition still holds."""
        partitions = [TopicPartition(*place) for place in places]
        found = self._consumer.beginning_offsets(partitions, timeout_ms=ANSWER_TIMEOUT_MS)
        return {(partition.topic, partition.partition): offset for partition, offset in found.items()}

    def offsets_at(self, moments_ms: Mapping[Place, int]) -> dict[Place, int | None]:
        """Return each partition's first offset at or after this timestamp (ms since 1970); None when it has none."""
        found = self._consumer.offsets_for_times({TopicPartition(*place): ms for place, ms in moments_ms.items()})
        offsets = {(partition.topic, partition.partition): hit for partition, hit in found.items()}
        return {place: offsets[place].offset if offsets.get(place) else None for place in moments_ms}

    def wake(self) -> None:
        """Make a poll check at once whether it should end. Thread-safe."""
        self._patience.wake()

    def poll(self, timeout_s: float, until: Callable[[], bool] = never, max_records: int = 2_000) -> list[Record]:
        """Return new records, in order within each partition. The list is empty after `timeout_s` seconds without any.

        The poll ends early when `until` returns true. `until` is called every second, and after `wake`.
        """
        return self._patience.poll(timeout_s, max_records, until)

    def position(self, place: Place) -> int:
        """Return the next offset to read. It is past any transaction markers already read.

        Raises Unavailable when the broker does not answer.
        """
        position = self._consumer.position(TopicPartition(*place), timeout_ms=ANSWER_TIMEOUT_MS)
        if position is None:
            raise Unavailable(f"{place[0]}:{place[1]}: no position after {ANSWER_TIMEOUT_MS / 1_000:.0f} s")
        return int(position)

    def reached(self, ends: Mapping[Place, int]) -> bool:
        """Return whether every partition was read up to its end.

        Positions decide, not the offsets of records, because transaction markers take offsets too, often the last one.
        """
        return all(self.position(place) >= end for place, end in ends.items())

    def read_to(self, ends: Mapping[Place, int], stall_s: float = 60.0) -> Iterator[list[Record]]:
        """Yield the records before these ends. Raises Unavailable after `stall_s` seconds without progress."""
        last_move, positions = time.monotonic(), {place: self.position(place) for place in ends}
        while not self.reached(ends):
            records = [record for record in self.poll(0.5) if record.offset < ends[record.place]]
            moved = {place: self.position(place) for place in ends}
            if moved != positions:
                last_move, positions = time.monotonic(), moved
            elif time.monotonic() - last_move > stall_s:
                raise Unavailable(f"reading stalled for {stall_s:.0f} s at {positions}, expected to reach {dict(ends)}")
            if records:
                yield records

    def close(self) -> None:
        """Close the connections."""
        try:
            self._ends.close()
        finally:
            self._consumer.close(autocommit=False)
