"""Records of a topic in, the model's answers to them on another: what a pipeline's loop does with each batch."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Event
from typing import Final

from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest, RecordHeader, SentRecord
from headrace_data.formats.json_lines import lines_of
from headrace_data.spec import Pipeline
from headrace_runtime.errors import (
    DeadlineExceeded,
    HeadraceError,
    InvalidInput,
    Overloaded,
    TooLarge,
    Unprocessable,
)
from headrace_runtime.kafka import GroupConsumer, TransactionalProducer
from headrace_runtime.kafka.envelopes import plain_headers
from headrace_runtime.kafka.gaps import Gap
from headrace_runtime.poison.bisection import CRASH
from headrace_runtime.priorities import LAST
from headrace_runtime.record_topics import SCORING_GROUP, scored_topic
from headrace_runtime.records import Outgoing, Record, by_place
from headrace_runtime.stream.dead_letters import MAX_KEY_BYTES, MAX_VALUE_BYTES
from headrace_runtime.stream.loops import TransactionLoop
from headrace_runtime.stream.pipelines import TELL_EVERY_S, TOLD_FOR_S
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import context_of, inject
from opentelemetry import trace

from headrace_inference.core import metrics
from headrace_inference.core.scoring import MOST_REFERRING, MOST_ROWS, Pace, Scoring, calls_of
from headrace_inference.transport.other_process import TookTooLong
from headrace_inference.transport.records.answers import rejected_alone
from headrace_inference.transport.records.around import DiesOften
from headrace_inference.transport.records.asked import AskedRecords, Form, Lying
from headrace_inference.transport.records.desk import RecordDesk
from headrace_inference.transport.records.door import Door

KIND: Final = "headrace.record.scored.v1"
"""`ce_type` of an answer."""
JSON: Final = "application/json"
AT_ONCE: Final = 2
"""Calls of a pipeline at once: the next one is read while the model computes."""
LEAST_WAIT_S: Final = 0.1
MOST_WAIT_S: Final = 5.0
"""Shortest and longest wait before an overloaded replica is asked again: it has callers to answer meanwhile."""
LOOK_S: Final = 0.5
"""How often is looked whether there is a release."""
QUIET_S: Final = 5.0
"""What is waited for so long is told."""
STOP_S: Final = 10.0
"""Longest wait for a loop when the replica stops, which drains its callers after that: Kafka may not answer."""
_OF_RECORDS: Final = (TooLarge, DeadlineExceeded, InvalidInput, Unprocessable, TookTooLong, DiesOften)
"""What may be the fault of one record of a call."""
_RULES: Final = {TooLarge: "oversized", DeadlineExceeded: "timeout", TookTooLong: CRASH, DiesOften: CRASH}
"""Rules that a record breaks which is refused alone; any other refusal breaks "refused"."""


def scoring_of(pipeline: Pipeline) -> Scoring:
    """Return what is to be answered of a pipeline. Raises ValueError for one that has nothing scored."""
    if pipeline.scored is None:
        raise ValueError(f"pipeline {pipeline.name!r}: expected serve.scoring, got none")
    return Scoring(
        pipeline.name,
        SCORING_GROUP.format(pipeline=pipeline.own_name),
        pipeline.model,
        pipeline.scored,
        scored_topic(pipeline.own_name),
        pipeline.stream.has_lines,
        pipeline.stream.personal is not None,
        MOST_REFERRING if pipeline.stream.references else MOST_ROWS,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The answers to records, in their order, and how many of these were rejected."""

    answers: Sequence[bytes]
    rejected: int = 0

    def __add__(self, other: _Found) -> _Found:
        return _Found([*self.answers, *other.answers], self.rejected + other.rejected)


class _Nobody:
    """The context of a call that nobody waits for."""

    def time_remaining(self) -> None:
        return None

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        pass


class Scorer:
    """Answers the records of one pipeline, in the thread of its loop."""

    def __init__(self, scoring: Scoring, door: Door, source: str) -> None:
        """`source` is the name of this service."""
        self.scoring = scoring
        self.stopping = Event()
        """Ends a wait for answers, which is in vain then."""
        self.consumer: GroupConsumer | None = None
        """Where the records are polled, as many as can be answered in a while."""
        self._pace = Pace()
        self._door = door
        self._source = source

    def waits(self) -> tuple[str, str] | None:
        """Return what there has to be before records are read, and what that is about; None where there is."""
        return self._door.closed_for(self.scoring.model)

    def opened(self, consumer: GroupConsumer) -> GroupConsumer:
        """Take note of where the records are polled."""
        consumer.max_records, self.consumer = self._pace.most, consumer
        return consumer

    def handle(self, records: Sequence[Record]) -> list[Outgoing]:
        """Return an answer to each record: to each line, where a message has many. Raises where it has to be later."""
        lines = list(self._lines(records))
        began_s = time.monotonic()
        try:
            found = self._door.answer(lambda desk: self._found(desk, lines), self.stopping)
        except BaseException:
            self._pace.failed()
            raise
        self._count(records, found)
        here = inject(())
        messages = [self._message(*each, here) for each in zip(lines, found.answers, strict=True)]
        self._pace.answered(len(records), time.monotonic() - began_s, sum(each.size for each in messages))
        self._poll_so_many()
        return messages

    def fits(self, records: Sequence[Record]) -> bool:
        """Return whether messages have few enough lines to be answered together. If not, fewer are polled next."""
        if not self.scoring.has_lines or self._pace.fits([1 + (each.value or b"").count(b"\n") for each in records]):
            return True
        self._poll_so_many()
        return False

    def _poll_so_many(self) -> None:
        if self.consumer is not None:
            self.consumer.max_records = self._pace.most

    def _lines(self, records: Sequence[Record]) -> Iterator[Record]:
        if not self.scoring.has_lines:
            yield from records
            return
        for record in records:
            for number, line in lines_of(record.value):
                yield record._replace(value=line, number=number)

    async def _found(self, desk: RecordDesk, records: Sequence[Record]) -> _Found:
        turns = asyncio.Semaphore(AT_ONCE)

        async def ask(call: Sequence[Record]) -> _Found:
            async with turns:
                return await self._ask(desk, call)

        rows = min(self.scoring.most_rows, desk.most_rows(self.scoring.model))
        asking = [asyncio.ensure_future(ask(call)) for call in calls_of(records, rows)]
        try:
            found = await asyncio.gather(*asking)
        finally:
            for each in asking:
                each.cancel()
        answers = list(chain.from_iterable(each.answers for each in found))
        return _Found(answers, sum(each.rejected for each in found))

    async def _ask(self, desk: RecordDesk, records: Sequence[Record]) -> _Found:
        """Return the answers of a call. One that a record is at fault for is halved until that is found."""
        asked = self._asked(records)
        while True:
            try:
                return _Found(*await desk.score(asked, _Nobody()))
            except Overloaded as error:
                await asyncio.sleep(min(max(error.wait_s, LEAST_WAIT_S), MOST_WAIT_S))
            except _OF_RECORDS as error:
                if len(records) == 1:
                    return _Found([self._refused(records[0], error)], 1)
                middle = len(records) // 2
                return await self._ask(desk, records[:middle]) + await self._ask(desk, records[middle:])

    def _asked(self, records: Sequence[Record]) -> AskedRecords:
        scoring = self.scoring
        body = PredictRecordsRequest(records=map(_sent, records)).SerializeToString()
        places = [_place(record) for record in records]
        return AskedRecords(Form.MESSAGE, body, scoring.model, "", LAST, scoring.pipeline, places)

    def _refused(self, record: Record, error: HeadraceError) -> bytes:
        rule = next((rule for kind, rule in _RULES.items() if isinstance(error, kind)), "refused")
        # What refuses a record may quote it.
        reason = "withheld: the pipeline has personal fields" if self.scoring.withholds else str(error)
        return rejected_alone(_place(record), self.scoring.model, rule, reason)

    def _message(self, record: Record, answer: bytes, here: list[tuple[str, bytes]]) -> Outgoing:
        key = None if self.scoring.withholds or len(record.key or b"") > MAX_KEY_BYTES else record.key
        if len(answer) > MAX_VALUE_BYTES:
            told = TooLarge(f"expected an answer of at most {MAX_VALUE_BYTES} bytes, got {len(answer)}")
            answer = self._refused(record, told)
        headers = [*plain_headers(KIND, self._source, JSON), *(context_of(record.headers) or here)]
        return Outgoing(self.scoring.answers, key, answer, headers, record.partition)

    def _count(self, records: Sequence[Record], found: _Found) -> None:
        """Tell metrics and the current span what became of some records."""
        pipeline, accepted = self.scoring.pipeline, len(found.answers) - found.rejected
        metrics.SCORED.labels(pipeline, "answered").inc(accepted)
        metrics.SCORED.labels(pipeline, "rejected").inc(found.rejected)
        ranges = ((place, each[0].offset, each[-1].offset) for place, each in by_place(records).items())
        trace.get_current_span().set_attributes(
            {
                names.PIPELINE: pipeline,
                names.MODEL: self.scoring.model,
                names.ROWS: accepted,
                names.REJECTED: found.rejected,
                names.SOURCES: [f"{topic}:{number}:{first}-{last}" for (topic, number), first, last in ranges],
            }
        )


class ScoringLoop(TransactionLoop):
    """The loop of one scorer. It reads no record before there is somebody who answers, and tells what it waits for."""

    def __init__(
        self,
        scorer: Scorer,
        open_consumer: Callable[[], GroupConsumer],
        open_producer: Callable[[], TransactionalProducer],
        ready: Callable[[Sequence[Record]], bool],
        tell: Callable[[str, str, float], None],
    ) -> None:
        """`tell` reports a trouble: its reason, empty when it is over; what it is about; for how many seconds."""

        def account(gap: Gap) -> Sequence[Outgoing]:
            tell(gap.reason, str(gap), 0.0)
            return ()

        def consumer() -> GroupConsumer:
            return scorer.opened(open_consumer())

        def fits(records: Sequence[Record]) -> bool:
            return ready(records) and scorer.fits(records)

        super().__init__(scorer.scoring.group, consumer, open_producer, scorer.handle, ready=fits, account=account)
        self.stop_timeout_s = STOP_S
        scorer.stopping = self.stopping
        self._waits = scorer.waits
        self._tell = tell

    def run(self) -> None:
        """Wait until there is a release, then work until stopped."""
        began_s = time.monotonic()
        told_s: dict[str, float] = {}
        while (waits := self._waits()) and not self.stopping.wait(LOOK_S):
            (reason, subject), now_s = waits, time.monotonic()
            # A replica that starts, or loads what is released, is no trouble.
            if now_s - began_s > QUIET_S and now_s - told_s.get(subject, -math.inf) > TELL_EVERY_S:
                self._tell(reason, subject, TOLD_FOR_S)
                told_s[subject] = now_s
        for subject in told_s:
            self._tell("", subject, 0.0)
        if not self.stopping.is_set():
            super().run()


def _place(record: Record) -> Lying:
    return Lying(record.topic, record.partition, record.offset, record.number)


def _sent(record: Record) -> SentRecord:
    headers = [RecordHeader(name=name, value=value) for name, value in record.headers]
    sent = SentRecord(value=record.value, key=record.key, headers=headers)
    if record.timestamp_ms > 0:
        sent.send_time.FromMilliseconds(record.time_ms)
    return sent
