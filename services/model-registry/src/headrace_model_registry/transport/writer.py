"""The one writer of the registry's log: facts from Kafka and from callers, in one thread, in one transaction each time.

Order of work, which is the guarantee:

1. start the transactional producer: a former registry is fenced, and what it left open is aborted;
2. read the log to its end: from now on only this process makes it longer;
3. take facts, decide, and write the log's entries, the messages that follow and the offsets in one transaction;
4. once that is committed, and only then, show the new catalogue and answer the callers.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from headrace_data.log_chain import LogChain
from headrace_runtime.errors import FailedPrecondition, Unavailable
from headrace_runtime.kafka import GroupConsumer, TransactionalProducer
from headrace_runtime.kafka.producers import MembershipLost
from headrace_runtime.process.service import Background
from headrace_runtime.records import Outgoing, Record, next_offsets
from headrace_runtime.stream.loops import RECORDS_CONSUMED, TRANSACTION_SECONDS
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import extract, links_to, tracer
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge

from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.draft import Draft
from headrace_model_registry.core.facts import LogEntry
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.state import State
from headrace_model_registry.core.wishes import Input
from headrace_model_registry.transport.consumer import to_fact
from headrace_model_registry.transport.outgoing import outgoing_of
from headrace_model_registry.transport.telling import note, tell

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 5.0
"""Longest wait of a caller's write for the poll before it."""
WRITE_TIMEOUT_S = 10.0
"""Longest wait of a caller for the commit (s): shorter than the usual deadline of a call, which would tell it less."""
ANSWER_S = 0.5
"""What an answer may take on its way (s): a write is given up so long before its caller stops waiting."""

ENTRIES = Counter("headrace_registry_entries", "Entries written to the registry's log.", ["event"])
PASSED_OVER = Counter("headrace_registry_facts_passed_over", "Facts that were not recorded.", ["fact", "why"])
VERSIONS = Gauge("headrace_registry_versions", "Versions in the catalogue.")


@dataclass(frozen=True, slots=True)
class _Write:
    """A caller's fact, the trace it belongs to, and where the answer goes."""

    fact: Input
    context: otel_context.Context = field(default_factory=otel_context.get_current)
    answer: "Future[Sequence[LogEntry]]" = field(default_factory=Future)


class LogWriter(Background):
    """Owns the log. `start` returns once the log was read to its end and raises what stood in the way.

    `source` names this writer in what it writes; no other writer has the same. `chain` knows the log's tree once
    `read_log` has read it.
    """

    def __init__(
        self,
        source: str,
        state: State,
        open_producer: Callable[[], TransactionalProducer],
        open_consumer: Callable[[], GroupConsumer],
        read_log: Callable[[], Iterable[LogEntry]],
        chain: LogChain,
    ) -> None:
        super().__init__("registry log")
        self._source = source
        self._state = state
        self._open_producer = open_producer
        self._open_consumer = open_consumer
        self._read_log = read_log
        self._chain = chain
        self._writes: queue.SimpleQueue[_Write] = queue.SimpleQueue()
        self._ready: Future[None] = Future()
        self._over = threading.Event()

    def start(self) -> None:
        """Take over the log and read it."""
        super().start()
        self._ready.result()

    def write(self, fact: Input, until_s: float | None = None) -> Sequence[LogEntry]:
        """Record a fact or grant a wish, with all that follows, and return what was written once that is committed.

        The caller waits until then (time.monotonic), or for long. Raises Unavailable before.
        """
        left_s = min(WRITE_TIMEOUT_S, math.inf if until_s is None else until_s - ANSWER_S - time.monotonic())
        if left_s <= 0:
            raise Unavailable("Kafka took all the time of the call before anything was written; try again")
        write = _Write(fact)
        self._writes.put(write)
        self.wake()
        if self._over.is_set():
            self._turn_away()
        try:
            return write.answer.result(left_s)
        except TimeoutError:
            raise Unavailable(
                f"Kafka did not commit within {left_s:.0f} s and may still: look whether it did; "
                "applying a pipeline once more is safe"
            ) from None

    def run(self) -> None:
        """Work until stopped."""
        try:
            producer = self._open_producer()
            with closing(producer):
                self._replay()
                with closing(self._open_consumer()) as consumer:
                    self._ready.set_result(None)
                    self._serve(producer, consumer)
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def close(self) -> None:
        """Answer whoever still waits, and whoever comes too late."""
        self._over.set()
        self._turn_away()

    def _turn_away(self) -> None:
        for write in self._waiting():
            write.answer.set_exception(Unavailable("the registry is stopping; nothing was written"))

    def _replay(self) -> None:
        catalogue, entries = Catalogue(), list(self._read_log())
        for entry in entries:
            catalogue.fold(entry)
        self._state.publish(catalogue, entries, self._chain.tree)
        VERSIONS.set(len(catalogue.versions))
        logger.info("read %s entries of the log", len(entries))

    def _serve(self, producer: TransactionalProducer, consumer: GroupConsumer) -> None:
        self.wake = consumer.wake
        while not self.stopping.is_set():
            records = consumer.poll(POLL_TIMEOUT_S, lambda: self.stopping.is_set() or not self._writes.empty())
            writes = self._waiting()
            if not (records or writes):
                continue
            try:
                self._process(records, writes, producer, consumer)
            except MembershipLost as error:
                logger.warning("deciding on %s facts again: %s", len(records) + len(writes), error)
                consumer.rewind(records)
                for write in writes:
                    self._writes.put(write)
            except BaseException:
                for write in writes:
                    write.answer.set_exception(Unavailable("the registry failed; look whether the write was committed"))
                raise

    def _process(
        self,
        records: Sequence[Record],
        writes: Sequence[_Write],
        producer: TransactionalProducer,
        consumer: GroupConsumer,
    ) -> None:
        draft = Draft(self._state.catalogue, self._state.tree)
        outgoing: list[Outgoing] = []
        for record in records:
            outgoing += self._learn(record, draft)
        outcomes = [self._take(write.fact, write.context, draft, outgoing) for write in writes]
        self._commit(outgoing, records, producer, consumer)
        self._state.publish(draft.catalogue, draft.entries, draft.tree)
        _report(draft, records)
        for write, outcome in zip(writes, outcomes, strict=True):
            _answer(write, outcome)

    def _commit(
        self,
        outgoing: Sequence[Outgoing],
        records: Sequence[Record],
        producer: TransactionalProducer,
        consumer: GroupConsumer,
    ) -> None:
        if not (outgoing or records):
            return
        with (
            TRANSACTION_SECONDS.labels(self.name).time(),
            tracer.start_as_current_span(
                names.SPAN_TRANSACTION,
                context=otel_context.Context(),
                links=links_to(message.headers for message in outgoing),
                attributes={names.MESSAGING_BATCH_COUNT: len(outgoing)},
            ),
            producer.transaction() as transaction,
        ):
            transaction.send(outgoing)
            if records:
                transaction.commit_offsets(next_offsets(records), consumer.membership())

    def _learn(self, record: Record, draft: Draft) -> list[Outgoing]:
        """Return the messages that follow from a message; their trace goes on from its trace."""
        context = extract(record.headers)
        attributes: dict[str, str | int] = {
            names.MESSAGING_SYSTEM: "kafka",
            names.MESSAGING_OPERATION: names.SPAN_PROCESS,
            names.MESSAGING_DESTINATION: record.topic,
            names.MESSAGING_PARTITION: str(record.partition),
            names.MESSAGING_OFFSET: record.offset,
        }
        with tracer.start_as_current_span(
            f"{names.SPAN_PROCESS} {record.topic}", context=context, kind=SpanKind.CONSUMER, attributes=attributes
        ):
            outgoing: list[Outgoing] = []
            fact = to_fact(record)
            if fact is None:
                PASSED_OVER.labels(record.topic, "unreadable").inc()
            else:
                self._take(fact, otel_context.get_current(), draft, outgoing)
            return outgoing

    def _take(
        self, fact: Input, context: otel_context.Context, draft: Draft, outgoing: list[Outgoing]
    ) -> list[LogEntry] | Objection:
        """Add what is to be written for a fact, in its trace, and return it, or why it is nothing."""
        token = otel_context.attach(context)
        try:
            outcome = draft.take(fact, datetime.now(UTC))
            if isinstance(outcome, Objection):
                level, why = (logging.INFO, "repeated") if outcome.repeated else (logging.WARNING, "unexpected")
                logger.log(level, "passed over %s: %s", type(fact).__name__, outcome.reason)
                PASSED_OVER.labels(type(fact).__name__, why).inc()
                return outcome
            note(outcome)
            outgoing += (message for entry in outcome for message in outgoing_of(entry, self._source, draft.tree))
            return outcome
        finally:
            otel_context.detach(token)

    def _waiting(self) -> list[_Write]:
        writes: list[_Write] = []
        while not self._writes.empty():
            writes.append(self._writes.get())
        return writes


def _report(draft: Draft, records: Sequence[Record]) -> None:
    VERSIONS.set(len(draft.catalogue.versions))
    for record in records:
        RECORDS_CONSUMED.labels(record.topic).inc()
    tell(draft.entries)
    for entry in draft.entries:
        kind = type(entry.event).__name__
        ENTRIES.labels(kind).inc()
        logger.info("recorded %s of pipeline %s", kind, entry.event.pipeline)


def _answer(write: _Write, outcome: list[LogEntry] | Objection) -> None:
    if not isinstance(outcome, Objection):
        write.answer.set_result(outcome)
    elif outcome.repeated:
        write.answer.set_result([])
    else:
        write.answer.set_exception(FailedPrecondition(outcome.reason))
