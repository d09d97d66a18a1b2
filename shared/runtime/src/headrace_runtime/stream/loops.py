"""Consume, process, produce: the loop behind every service that turns records into records, exactly once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from headrace_runtime.kafka.consumers import GroupConsumer
from headrace_runtime.kafka.gaps import Gap
from headrace_runtime.kafka.producers import MembershipLost, TransactionalProducer
from headrace_runtime.kafka.watchdog import HangWatch
from headrace_runtime.poison.caution import Caution, Suspects
from headrace_runtime.poison.trials import is_transient, reason_of
from headrace_runtime.process.service import Background
from headrace_runtime.records import Handle, Outgoing, Place, Record, by_place, next_offsets
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import links_to, process_attributes, tracer

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 5.0
"""Longest wait for messages, in seconds. A message that arrives ends the wait early, and so does a stop."""
POSTPONE_S = 0.05
"""Seconds between two reads of messages that are not ready."""
HANG_S = 180.0
"""Seconds after which a step counts as hanging: a batch with its transaction, or one part of restoring state."""


_headers = attrgetter("headers")


class State(Protocol):
    """What a handler remembers of partitions."""

    def restore(self, places: Collection[Place], beat: Callable[[], None]) -> Collection[Place]:
        """Make the state of partitions agree with what is committed; return those for which that is done.

        Takes back what was handled and not committed. Returns some of them after a few seconds: the loop polls, which
        keeps its membership, and asks for the others again. Sends a heartbeat by calling `beat` within each part.
        """

    def committed(self, written: Mapping[Place, int]) -> None:
        """Take note that what was handled in these partitions is committed.

        `written` names the next offset of each partition that the transaction wrote to, its marker left out.
        """


class _Stateless:
    def restore(self, places: Collection[Place], beat: Callable[[], None]) -> Collection[Place]:
        beat()
        return places

    def committed(self, written: Mapping[Place, int]) -> None:
        pass


RECORDS_CONSUMED = Counter("headrace_records_consumed", "Kafka messages consumed and committed.", ["topic"])
TRANSACTION_SECONDS = Histogram("headrace_transaction_seconds", "Duration of Kafka transactions.", ["loop"])


class TransactionLoop(Background):
    """Polls batches, passes each to `handle`, and writes its results and the offsets in one transaction.

    An error leaves the batch uncommitted and ends the loop. The next run of the loop reads the batch again. A rebalance
    during the transaction aborts it, and the partition's next owner reads the batch again.

    A handler with state provides it as `state`. The loop has it restored for every partition in which it may not agree
    with the committed offset: newly assigned partitions, and all partitions after an aborted transaction. That happens
    when the first records of the partition arrive. The broker has then returned the committed offset, which it does
    only once the former owner's transaction has ended. Records of partitions that take longer are read again later. A
    state must send heartbeats while it is restored, or the loop counts as hanging.

    Messages that are not `ready` are read again later. Nothing is handled, restored or counted in the meantime.

    `account` returns the messages that report a gap: records deleted before they were read. The loop writes them in the
    transaction that moves the offset past the gap.

    With `suspects`, an error of the handler, or repeated process deaths at one offset, makes the loop cautious in that
    partition (see `poison.caution`). Poison messages are parked, and all others are handled.
    """

    def __init__(
        self,
        name: str,
        open_consumer: Callable[[], GroupConsumer],
        open_producer: Callable[[], TransactionalProducer],
        handle: Handle,
        state: State | None = None,
        suspects: Suspects | None = None,
        ready: Callable[[Sequence[Record]], bool] = lambda _: True,
        account: Callable[[Gap], Sequence[Outgoing]] = lambda _: (),
    ) -> None:
        super().__init__(name)
        self._account = account
        self._state: State = state or _Stateless()
        self._open_consumer = open_consumer
        self._open_producer = open_producer
        self._handle = handle
        self._suspects = suspects
        self._ready = ready

    def run(self) -> None:
        """Work until stopped."""
        with (
            HangWatch(self.name, HANG_S) as watch,
            closing(self._open_producer()) as producer,
            closing(self._open_consumer()) as consumer,
            ExitStack() as stack,
        ):
            caution = None
            if self._suspects:
                caution = Caution(self.name, self._suspects, self._handle, consumer.max_records)
                stack.callback(caution.close)
            round_ = _Round(self.name, consumer, producer, self._handle, caution, self._state)
            restored: set[Place] = set()
            arrivals = consumer.arrivals()
            self.wake = consumer.wake
            while not self.stopping.is_set():
                watch.beat()
                self.on_round()
                records = consumer.poll(POLL_TIMEOUT_S, self.stopping.is_set)
                arrived = arrivals.new()
                restored -= arrived
                if caution:
                    caution.forget(arrived)
                    caution.keep(consumer.assignment())
                gone = {gap.place for gap in consumer.gaps() if not round_.pass_over(gap, self._account(gap))}
                if gone:
                    records = [record for record in records if record.place not in gone]
                if records and not self._ready(records):
                    consumer.rewind(records)
                    self.stopping.wait(POSTPONE_S)
                    continue
                if unknown := by_place(records).keys() - restored:
                    restored |= set(self._state.restore(unknown, watch.beat))
                    watch.beat()
                    consumer.rewind(record for record in records if record.place not in restored)
                    records = [record for record in records if record.place in restored]
                if records and not round_.process(records):
                    restored = set()


@dataclass(frozen=True, slots=True)
class _Round:
    """The processing of the records of one poll."""

    name: str
    consumer: GroupConsumer
    producer: TransactionalProducer
    handle: Handle
    caution: Caution | None
    state: State

    def process(self, records: Sequence[Record]) -> bool:
        """Return whether the handler's state agrees with the committed offsets."""
        if self.caution is None:
            return self._ordinary(records)
        try:
            self._begin(records, self.caution)
        except MembershipLost as error:
            return self._again(records, error)
        places = by_place(records)
        suspected = [place for place in places if self.caution.suspects(place)]
        if not suspected:
            return self._ordinary(records)
        ordinary = [record for place, found in places.items() if place not in suspected for record in found]
        done = [self._ordinary(ordinary)] if ordinary else []
        done += [self._carefully(places[place], self.caution) for place in suspected]
        return all(done)

    def pass_over(self, gap: Gap, messages: Sequence[Outgoing]) -> bool:
        """Commit the offset after a gap. Return False when the commit failed; the gap is then found again."""
        try:
            with self.producer.transaction() as transaction:
                transaction.send(messages)
                transaction.commit_offsets({gap.place: gap.end}, self.consumer.membership())
        except MembershipLost as error:
            logger.warning("%s: looking at %s again: %s", self.name, gap, error)
            self.consumer.seek(gap.place, gap.start)
            return False
        if self.caution:
            self.caution.forget([gap.place])
        return True

    def _begin(self, records: Sequence[Record], caution: Caution) -> None:
        """Write to the offset metadata of newly assigned partitions that a process begins there."""
        offsets = caution.unbegun(records)
        if offsets:
            notes = caution.begin(offsets, self.consumer.notes(offsets), self.consumer.ends)
            with self.producer.transaction() as transaction:
                transaction.note_offsets(offsets, self.consumer.membership(), notes)

    def _ordinary(self, records: Sequence[Record]) -> bool:
        topic = records[0].topic
        attributes = process_attributes(topic, self.consumer.group, len(records))
        links = links_to(map(_headers, records))
        with tracer.start_as_current_span(
            f"{names.SPAN_PROCESS} {topic}", kind=SpanKind.CONSUMER, attributes=attributes, links=links
        ):
            try:
                messages = self.handle(records)
            except Exception as error:
                if self.caution is None or is_transient(error):
                    raise
                logger.exception("%s: %s messages could not be handled", self.name, len(records))
                self.caution.suspect(records, reason_of(error))
                self.consumer.rewind(records)
                return False
            return self._commit(records, messages)

    def _carefully(self, records: Sequence[Record], caution: Caution) -> bool:
        topic, _ = place = records[0].place
        with tracer.start_as_current_span(
            f"{names.SPAN_PROCESS} {topic}",
            kind=SpanKind.CONSUMER,
            attributes=process_attributes(topic, self.consumer.group, len(records)),
            links=links_to(record.headers for record in records),
        ):
            step = caution.step(records)
            if step.records and not self._commit(step.records, step.messages, {place: step.note}):
                caution.forget([place])
                self.consumer.rewind(records)
                return False
        if step.records:
            caution.committed(step)
        # The next round processes the remaining records. The poll in between keeps the group membership.
        self.consumer.rewind(records[len(step.records) :])
        return True

    def _commit(
        self, records: Sequence[Record], messages: Sequence[Outgoing], notes: dict[Place, str] | None = None
    ) -> bool:
        try:
            with (
                TRANSACTION_SECONDS.labels(self.name).time(),
                tracer.start_as_current_span(names.SPAN_TRANSACTION),
                self.producer.transaction() as transaction,
            ):
                transaction.send(messages)
                transaction.commit_offsets(next_offsets(records), self.consumer.membership(), notes or {})
        except MembershipLost as error:
            return self._again(records, error)
        self.state.committed(transaction.written())
        RECORDS_CONSUMED.labels(records[0].topic).inc(len(records))
        return True

    def _again(self, records: Sequence[Record], error: MembershipLost) -> bool:
        logger.warning("%s: reading %s records again: %s", self.name, len(records), error)
        self.consumer.rewind(records)
        return False
