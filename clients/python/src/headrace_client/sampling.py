"""A sample of a topic's newest records: read only, outside of any consumer group.

Needs the extra `headrace-client[kafka]`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from headrace_client.brokers import CONNECT_TIMEOUT_MS, kafka_errors, kafka_settings
from headrace_client.errors import InputInvalid, TimedOut
from headrace_client.topics import unknown_topic
from headrace_client.views import View, bytes_view, iso_time

if TYPE_CHECKING:
    from kafka import KafkaConsumer, TopicPartition
    from kafka.consumer.fetcher import ConsumerRecord

STALL_S = 30.0
"""Longest wait for the next record."""
LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: a producer may send any number as a time."""
ANSWER_TIMEOUT_MS = 15_000
"""Longest wait for what a broker knows about a topic."""


class TopicUnusable(InputInvalid):
    """A topic does not exist, or holds nothing."""


def newest_records(topic: str, count: int, command: str = "init") -> list[bytes | None]:
    """Return the values of a topic's newest `count` committed records, or of all when it holds fewer.

    Raises as `newest` does, and TopicUnusable when there is none.
    """
    found = newest(topic, count, command)
    if not found:
        raise TopicUnusable(f"expected records in topic '{topic}', got none: let its producers run first")
    return [record.value for record in found]


def records_of(topic: str, command: str) -> int:
    """Return about how many records a topic holds: transaction markers count too. Raises as `newest` does."""
    with _consumer(command) as consumer:
        partitions = _partitions(consumer, topic)
        firsts = consumer.beginning_offsets(partitions, timeout_ms=ANSWER_TIMEOUT_MS)
        ends = consumer.end_offsets(partitions, timeout_ms=ANSWER_TIMEOUT_MS)
        return sum(ends[partition] - firsts[partition] for partition in partitions)


def newest(topic: str, count: int, command: str) -> list[ConsumerRecord]:
    """Return a topic's newest `count` committed records, or all when it holds fewer, oldest first in each partition.

    Partitions give equal shares as far as they can. Raises TopicUnusable when there is no such topic, SettingInvalid,
    Unreachable when no broker answers, TimedOut, and ExtraMissing, which names the command.
    """
    with _consumer(command) as consumer:
        partitions = _partitions(consumer, topic)
        firsts = consumer.beginning_offsets(partitions, timeout_ms=ANSWER_TIMEOUT_MS)
        ends = consumer.end_offsets(partitions, timeout_ms=ANSWER_TIMEOUT_MS)
        shares = share_out({partition: ends[partition] - firsts[partition] for partition in partitions}, count)
        starts = {partition: ends[partition] - share for partition, share in shares.items() if share}
        return list(_read(consumer, starts, ends)) if starts else []


def record_view(record: ConsumerRecord) -> View:
    """Return a record: where it lies, when it was sent, and its bytes.

    Bytes are text where they are UTF-8; others stand under `…_base64`, and the text is null.
    """
    stamp = Timestamp()
    stamp.FromMilliseconds(min(max(0, record.timestamp), LAST_MS))
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": iso_time(stamp),
        **bytes_view("key", record.key or b""),
        **bytes_view("value", record.value or b""),
        "headers": [{"name": name, **bytes_view("value", value or b"")} for name, value in record.headers],
    }


def share_out(available: Mapping[Any, int], count: int) -> dict[Any, int]:
    """Return how many records to read of each partition: as equal as what there is allows, `count` in sum at most."""
    shares: dict[Any, int] = {}
    left = count
    for place, (partition, there) in enumerate(sorted(available.items(), key=lambda item: item[1])):
        # The smallest come first: what they cannot give, the others share.
        shares[partition] = min(there, -(-left // (len(available) - place)))
        left -= shares[partition]
    return shares


@contextmanager
def _consumer(command: str) -> Iterator[KafkaConsumer]:
    settings = kafka_settings(command)
    from kafka import KafkaConsumer

    with kafka_errors(settings):
        consumer = KafkaConsumer(
            client_id="headrace.sample",
            group_id=None,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            isolation_level="read_committed",
            bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
            **settings.kafka_client(),
        )
        try:
            yield consumer
        finally:
            consumer.close(autocommit=False)


def _partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    from kafka import TopicPartition

    known = consumer.topics()
    if topic not in known:
        raise TopicUnusable(unknown_topic(topic, known))
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]


def _read(
    consumer: KafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> Iterator[ConsumerRecord]:
    """Yield records from these offsets up to the ends. Positions decide: transaction markers take offsets too."""
    consumer.assign(list(starts))
    for partition, start in starts.items():
        consumer.seek(partition, start)
    waited_from = time.monotonic()
    while any(consumer.position(partition) < ends[partition] for partition in starts):
        polled: Mapping[TopicPartition, Sequence[Any]] = consumer.poll(timeout_ms=500)
        for partition, messages in polled.items():
            yield from (message for message in messages if message.offset < ends[partition])
        if polled:
            waited_from = time.monotonic()
        elif time.monotonic() - waited_from > STALL_S:
            raise TimedOut(f"no record came for {STALL_S:.0f} s, though there are more: try again")
