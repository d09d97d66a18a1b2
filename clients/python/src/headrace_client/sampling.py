"""A sample of a topic's newest records: read only, outside of any consumer group.

Needs the extra `headrace-client[kafka]`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from headrace_client.addresses import PLATFORM_FILE, home_folder
from headrace_client.errors import ExtraMissing, InputInvalid, SettingInvalid, TimedOut, Unreachable

if TYPE_CHECKING:
    from headrace_runtime.settings import KafkaSettings
    from kafka import KafkaConsumer, TopicPartition

BROKERS_SETTING = "HEADRACE_KAFKA_BOOTSTRAP_SERVERS"
STALL_S = 30.0
"""Longest wait for the next record."""
CONNECT_TIMEOUT_MS = 5_000
"""Longest wait for a first broker."""
ANSWER_TIMEOUT_MS = 15_000
"""Longest wait for what a broker knows about a topic."""
_OWN_TOPICS = ("headrace.", "__")
"""How topics begin that are no producers'."""


class TopicUnusable(InputInvalid):
    """A topic does not exist, or holds nothing."""


def newest_records(topic: str, count: int) -> list[bytes | None]:
    """Return the values of a topic's newest `count` committed records, or of all when it holds fewer.

    Partitions give equal shares as far as they can. Raises TopicUnusable, SettingInvalid, Unreachable when no broker
    answers, TimedOut, and ExtraMissing.
    """
    with _consumer() as consumer:
        partitions = _partitions(consumer, topic)
        firsts = consumer.beginning_offsets(partitions, timeout_ms=ANSWER_TIMEOUT_MS)
        ends = consumer.end_offsets(partitions, timeout_ms=ANSWER_TIMEOUT_MS)
        shares = share_out({partition: ends[partition] - firsts[partition] for partition in partitions}, count)
        starts = {partition: ends[partition] - share for partition, share in shares.items() if share}
        found = list(_read(consumer, starts, ends)) if starts else []
    if not found:
        raise TopicUnusable(f"expected records in topic '{topic}', got none: let its producers run first")
    return found


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
def _consumer() -> Iterator[KafkaConsumer]:
    settings = _settings()
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError, KafkaTimeoutError

    brokers = settings.kafka_bootstrap_servers
    consumer = None
    try:
        consumer = KafkaConsumer(
            client_id="headrace.init",
            group_id=None,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            isolation_level="read_committed",
            bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
            **settings.kafka_client(),
        )
        yield consumer
    except KafkaTimeoutError as error:
        if consumer is None:
            raise Unreachable("Kafka", brokers, str(error)) from error
        raise TimedOut(f"Kafka at {brokers} did not answer in time: {error}") from error
    except (KafkaError, OSError) as error:
        raise Unreachable("Kafka", brokers, str(error)) from error
    finally:
        if consumer is not None:
            consumer.close(autocommit=False)


def _settings() -> KafkaSettings:
    """Return how to reach Kafka: the variables that services read, else the embedded platform's own file."""
    try:
        from headrace_runtime.errors import SettingsInvalid
        from headrace_runtime.settings import KafkaSettings, load_settings
    except ModuleNotFoundError as error:
        raise ExtraMissing("init", "kafka") from error
    try:
        settings = load_settings(KafkaSettings)
    except SettingsInvalid as error:
        raise SettingInvalid(str(error)) from error
    if os.environ.get(BROKERS_SETTING):
        return settings
    try:
        state = json.loads((home_folder() / PLATFORM_FILE).read_bytes())
    except (OSError, ValueError):
        return settings
    brokers = state.get("kafka_bootstrap_servers") if isinstance(state, dict) else None
    return settings.model_copy(update={"kafka_bootstrap_servers": brokers}) if brokers else settings


def _partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    from kafka import TopicPartition

    known = consumer.topics()
    if topic not in known:
        names = sorted(name for name in known if not name.startswith(_OWN_TOPICS))
        close = "".join(f"; did you mean '{name}'?" for name in get_close_matches(topic, names, n=1))
        listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        raise TopicUnusable(f"there is no topic '{topic}'{close}; there are: {listed or 'none'}")
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]


def _read(
    consumer: KafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> Iterator[bytes | None]:
    """Yield values from these offsets up to the ends. Positions decide: transaction markers take offsets too."""
    consumer.assign(list(starts))
    for partition, start in starts.items():
        consumer.seek(partition, start)
    waited_from = time.monotonic()
    while any(consumer.position(partition) < ends[partition] for partition in starts):
        polled: Mapping[TopicPartition, Sequence[Any]] = consumer.poll(timeout_ms=500)
        for partition, messages in polled.items():
            yield from (message.value for message in messages if message.offset < ends[partition])
        if polled:
            waited_from = time.monotonic()
        elif time.monotonic() - waited_from > STALL_S:
            raise TimedOut(f"no record came for {STALL_S:.0f} s, though there are more: try again")
