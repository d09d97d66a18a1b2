"""Consume, process, produce: the loop behind every service that turns records into records, exactly once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing

from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from headrace_runtime import telemetry_names as names
from headrace_runtime.kafka.consumers import GroupConsumer, Place
from headrace_runtime.kafka.producers import MembershipLost, TransactionalProducer
from headrace_runtime.kafka.watchdog import HangWatch
from headrace_runtime.messages import Handle, Record, next_offsets
from headrace_runtime.service import Background
from headrace_runtime.telemetry import links_to, process_attributes, tracer

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 0.2
HANG_S = 120.0
"""A round of a loop that takes longer hangs: twice what restoring a state may wait for other transactions."""

RECORDS_CONSUMED = Counter("headrace_records_consumed", "Kafka messages consumed and committed.", ["topic"])
TRANSACTION_SECONDS = Histogram("headrace_transaction_seconds", "Duration of Kafka transactions.", ["loop"])


class TransactionLoop(Background):
    """Polls, hands each batch to `handle`, and writes what it returns together with the offsets in one transaction.

    An error leaves the batch uncommitted and ends the process; the next one reads it again. A rebalance during the
    transaction aborts it, and the batch is read again by whoever owns it.

    A handler with state tells `restore`, which is called with every partition whose state must be read anew: those that
    have been assigned, and all of them after a transaction was aborted. That is when their first records have come: by
    then the broker has told the committed offset, which it does only once the former owner's transaction has ended.
    """

    def __init__(
        self,
        name: str,
        open_consumer: Callable[[], GroupConsumer],
        open_producer: Callable[[], TransactionalProducer],
        handle: Handle,
        restore: Callable[[set[Place]], None] = lambda _: None,
    ) -> None:
        super().__init__(name)
        self._restore = restore
        self._open_consumer = open_consumer
        self._open_producer = open_producer
        self._handle = handle

    def run(self) -> None:
        """Work until stopped."""
        with (
            HangWatch(self.name, HANG_S) as watch,
            closing(self._open_producer()) as producer,
            closing(self._open_consumer()) as consumer,
        ):
            restored: set[Place] = set()
            while not self.stopping.is_set():
                watch.beat()
                records = consumer.poll(POLL_TIMEOUT_S)
                restored -= consumer.arrived()
                unknown = {(record.topic, record.partition) for record in records} - restored
                if unknown:
                    self._restore(unknown)
                    restored |= unknown
                if records and not self._process(records, consumer, producer):
                    restored = set()

    def _process(self, records: Sequence[Record], consumer: GroupConsumer, producer: TransactionalProducer) -> bool:
        """Return whether the batch was committed."""
        topic = records[0].topic
        attributes = process_attributes(topic, consumer.group, len(records))
        links = links_to(record.headers for record in records)
        with tracer.start_as_current_span(
            f"{names.SPAN_PROCESS} {topic}", kind=SpanKind.CONSUMER, attributes=attributes, links=links
        ):
            messages = self._handle(records)
            try:
                with (
                    TRANSACTION_SECONDS.labels(self.name).time(),
                    tracer.start_as_current_span(names.SPAN_TRANSACTION),
                    producer.transaction() as transaction,
                ):
                    transaction.send(messages)
                    transaction.commit_offsets(next_offsets(records), consumer.group_metadata())
            except MembershipLost as error:
                logger.warning("%s: reading %s records again: %s", self.name, len(records), error)
                consumer.rewind(records)
                return False
        RECORDS_CONSUMED.labels(topic).inc(len(records))
        return True
