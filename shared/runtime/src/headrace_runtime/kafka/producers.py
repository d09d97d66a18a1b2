"""Kafka producers: transactional, and best-effort."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

import zstandard
from kafka import KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from headrace_runtime.errors import HeadraceError
from headrace_runtime.kafka import internals
from headrace_runtime.kafka.progress import Progress
from headrace_runtime.kafka.stamps import Membership
from headrace_runtime.kafka.watchdog import HangWatch
from headrace_runtime.records import Offsets, Outgoing, Place
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import tracer

logger = logging.getLogger(__name__)

ZSTD_LEVEL = 1
"""How much Zstandard tries: a batch of numbers takes a fifth of the CPU that it does at 3, and 4 % more bytes."""
TRANSACTION_TIMEOUT_MS = 60_000
"""Time (milliseconds) after which the broker aborts an open transaction."""
ANSWER_TIMEOUT_S = TRANSACTION_TIMEOUT_MS / 1_000
"""Longest wait (seconds) for the broker to take offsets or a commit."""
HUNG_TRANSACTION_S = 2 * TRANSACTION_TIMEOUT_MS / 1_000
"""A transaction that takes longer (seconds) ends the process: some waits of kafka-python have no limit."""

_WRITING: dict[str, Any] = {
    "allow_auto_create_topics": False,
    "compression_type": "zstd",
    "batch_size": 512 * 1024,
    "max_request_size": 8 * 1024 * 1024,
    # With the default of 100 ms most transactions take 110: the next meets CONCURRENT_TRANSACTIONS and backs off.
    "retry_backoff_ms": 5,
    "metrics_enabled": False,
}

_FENCED = (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError, kafka_errors.FencedInstanceIdError)
_LOST_MEMBERSHIP = (
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.TransactionAbortedError,
    kafka_errors.TransactionAbortableError,
)


internals.compress_with(lambda batch: zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(batch))


class Fenced(HeadraceError):
    """Another process took over this transactional id; this process must end."""


class MembershipLost(HeadraceError):
    """The consumer group rebalanced during a transaction, which was aborted."""


class Transaction:
    """An open transaction and the messages and offsets written in it."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self._sent: list[Any] = []
        self.offsets: list[tuple[Membership, Offsets]] = []
        """Offsets that members of consumer groups commit."""

    def send(self, messages: Iterable[Outgoing]) -> None:
        """Write messages."""
        self._sent += [send(self._producer, message) for message in messages]

    def written(self) -> dict[Place, int]:
        """Return the next offset behind what `send` wrote to each partition, once the transaction is committed."""
        ends: dict[Place, int] = {}
        for future in self._sent:
            found = future.get(timeout=ANSWER_TIMEOUT_S)
            place = (found.topic, found.partition)
            ends[place] = max(ends.get(place, 0), found.offset + 1)
        return ends

    def send_now(self, message: Outgoing) -> tuple[int, int]:
        """Write one message, wait for the broker, and return its partition and offset."""
        future = send(self._producer, message)
        self._producer.flush()
        written = future.get(timeout=30)
        return written.partition, written.offset

    def commit_offsets(
        self, offsets: Offsets, membership: Membership, notes: Mapping[Place, str] = MappingProxyType({})
    ) -> None:
        """Commit offsets of a consumer group in the transaction, some with a note as their metadata."""
        with tracer.start_as_current_span(names.SPAN_COMMIT):
            self.note_offsets(offsets, membership, notes)

    def note_offsets(self, offsets: Offsets, membership: Membership, notes: Mapping[Place, str]) -> None:
        """Commit offsets without a span, for notes that belong to no processed record."""
        metadata = membership.metadata(offsets, notes)
        structs = {
            TopicPartition(*place): OffsetAndMetadata(offset, metadata[place], -1) for place, offset in offsets.items()
        }
        _answered(self._producer, "send_offsets_to_transaction", structs, membership.group_metadata)
        self.offsets.append((membership, offsets))


class TransactionalProducer:
    """A transactional producer. A new producer with the same transactional id fences it."""

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self.transactional_id = transactional_id
        self._is_stuck = False
        self._producer = KafkaProducer(
            transactional_id=transactional_id,
            client_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **_WRITING,
            # A pipeline's topics may have grown since this client last looked.
            metadata_max_age_ms=30_000,
            **settings.kafka_client(),
        )
        try:
            self._producer.init_transactions()
        except BaseException:
            self._producer.close(timeout=0)
            raise

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit the writes of the block, or abort the transaction when the block raises.

        Raises Fenced when another process took over the transactional id, and MembershipLost when the consumer group
        rebalanced meanwhile. The transaction is then aborted, and the records must be read again. After a KafkaError
        the outcome is unknown, and the producer must be closed: a new one with the same id aborts what is still open.
        """
        with HangWatch(f"transaction of {self.transactional_id}", HUNG_TRANSACTION_S):
            try:
                # kafka-python (3.0.12) keeps the offsets of an aborted transaction and commits them with the next:
                # the records to be read again would be lost.
                internals.forget_uncommitted(self._producer)
                self._producer.begin_transaction()
                transaction = Transaction(self._producer)
                yield transaction
                _answered(self._producer, "begin_commit")
                for membership, offsets in transaction.offsets:
                    Progress.of(membership.group).committed(offsets, membership.topic_ids)
            except _FENCED as error:
                raise Fenced(f"{self.transactional_id}: another process took over") from error
            except _LOST_MEMBERSHIP as error:
                self._producer.abort_transaction()
                raise MembershipLost(f"{self.transactional_id}: {error!r}") from error
            except BaseException as error:
                # A write just before may have found out first; the client then raises another error.
                if isinstance(internals.last_error(self._producer), _FENCED):
                    raise Fenced(f"{self.transactional_id}: another process took over") from error
                if isinstance(error, kafka_errors.KafkaError):
                    # Aborting may wait for ever, such as for a topic that is gone. Whoever begins anew has it aborted.
                    self._is_stuck = True
                else:
                    self._producer.abort_transaction()
                raise

    def close(self) -> None:
        """Close the connections; an open transaction is aborted by the broker."""
        if self._is_stuck:
            # What could not be written is given up; a close would wait for it, and then leave it to be tried for ever.
            internals.give_up(self._producer)
        with suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=10)


def _answered(producer: KafkaProducer, ask: str, *what: Any) -> None:
    """Ask the broker for a step of a transaction. Raises KafkaTimeoutError: the client itself would wait for ever."""
    result = internals.ask(producer, ask, *what)
    if not result.wait(timeout_ms=ANSWER_TIMEOUT_S * 1_000):
        raise kafka_errors.KafkaTimeoutError(
            f"the broker did not answer within {ANSWER_TIMEOUT_S:.0f} s ({ask}); is a topic gone that is written to?"
        )


def send(producer: KafkaProducer, message: Outgoing) -> Any:
    """Pass a message to a kafka-python producer and return its future."""
    return producer.send(
        message.topic, message.value, key=message.key, headers=list(message.headers), partition=message.partition
    )


def best_effort_producer(settings: KafkaSettings, client_id: str, gather_s: float) -> KafkaProducer:
    """Return a producer for bursts of messages every `gather_s` seconds; it writes each burst together.

    The producer keeps the order. It may write a message twice when the broker's acknowledgement is lost. An idempotent
    producer would not, but kafka-python's (3.0.12) stops for good once the broker has refused a message for its size or
    for a missing permission.
    """
    return KafkaProducer(
        client_id=client_id,
        linger_ms=int(250 * gather_s),
        enable_idempotence=False,
        max_in_flight_requests_per_connection=1,
        **_WRITING,
        **settings.kafka_client(),
    )


def recording_producer(settings: KafkaSettings, client_id: str, answer_s: float) -> KafkaProducer:
    """Return a producer of events that somebody waits for, at most `answer_s` seconds; not idempotent, as above."""
    return KafkaProducer(
        client_id=client_id,
        acks="all",
        linger_ms=1,
        enable_idempotence=False,
        max_block_ms=int(answer_s * 1_000),
        request_timeout_ms=int(answer_s * 1_000),
        delivery_timeout_ms=int(answer_s * 1_000) + 1,
        **_WRITING,
        **settings.kafka_client(),
    )
