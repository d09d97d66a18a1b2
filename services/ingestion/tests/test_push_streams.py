"""Streams of pushed batches: what shares a transaction, what is left unread, and what ends a stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from headrace.events.v1.record_pb2 import PushAccepted, RecordBatch
from headrace.ingestion.v1 import ingestion_service_pb2 as pb
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.line import PushLine
from headrace_ingestion.transport.acceptance import Entrance
from headrace_ingestion.transport.push_streams import MOST_AHEAD, PushStreams
from headrace_ingestion.transport.pushes import PushDesk
from headrace_runtime.errors import HeadraceError, InvalidInput, Overloaded, Unavailable

RECORD = b'{"id": "a", "level": 1, "state": 1}'
SIZE = pb.PushRequest(pipeline="meters", batch_id="0", records=[RECORD]).ByteSize()


class Log:
    """What is accepted, in memory; each transaction waits until it `may` be."""

    def __init__(self) -> None:
        self.known: dict[str, PushAccepted] = {}
        self.transactions: list[int] = []
        self.sent: list[Any] = []
        self.may = threading.Event()
        self.refuses: Callable[[int], bool] = lambda _: False
        """Whether a transaction of so many batches fails."""

    @contextmanager
    def writer(self) -> Iterator[Log]:
        self.transactions.append(0)
        yield self
        assert self.may.wait(20)
        if self.refuses(self.transactions[-1]):
            raise Unavailable("Kafka does not take records now")

    def answer(self, _: str, batch_id: str) -> PushAccepted | None:
        return self.known.get(batch_id)

    def remember(self, accepted: PushAccepted) -> None:
        self.known[accepted.batch_id] = accepted

    def send_now(self, _: object) -> tuple[int, int]:
        self.transactions[-1] += 1
        return 0, 7

    def send(self, messages: Any) -> None:
        self.sent += messages


class Sender:
    """Sends batches on a stream, and knows how many were read."""

    def __init__(self, *ids: str, then: asyncio.Event | None = None, more: bytes = b"") -> None:
        self._ids, self._then = ids, then
        self._more = more
        """A record more in all batches behind the first."""
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[pb.PushStreamRequest]:
        for batch_id in self._ids:
            self.read += 1
            records = [RECORD, self._more] if self._more and self.read > 1 else [RECORD]
            batch = pb.PushRequest(pipeline="meters", batch_id=batch_id, records=records)
            yield pb.PushStreamRequest(batch=batch)
        if self._then is not None:
            await self._then.wait()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def new_streams(new_intake: Callable[..., Intake], log: Log) -> Callable[[int], tuple[PushStreams, PushLine]]:
    def make(most_bytes: int) -> tuple[PushStreams, PushLine]:
        accepted: Any = log
        line = PushLine(most_bytes)
        desk = PushDesk({"meters": Entrance(new_intake(), 1)}, accepted, ThreadPoolExecutor(1), line)
        return PushStreams(desk), line

    return make


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def answers_of(streams: PushStreams, sender: Sender) -> tuple[list[str], HeadraceError | None]:
    ids: list[str] = []
    try:
        async for answer in streams.answered(aiter(sender)):
            ids.append(answer.batch_id)
    except HeadraceError as error:
        return ids, error
    return ids, None


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_what_waits_shares_a_transaction_and_the_rest_is_not_read(
    new_streams: Callable[[int], tuple[PushStreams, PushLine]], log: Log
) -> None:
    async def run() -> None:
        streams, _ = new_streams(10**6)
        sender = Sender(*numbers(100))
        told = asyncio.create_task(answers_of(streams, sender))
        # The one more waits for room.
        await until(lambda: sender.read == MOST_AHEAD + 1 and log.transactions != [])
        log.may.set()
        assert await told == (numbers(100), None)
        assert sum(log.transactions) == 100
        assert max(log.transactions) > 1

    asyncio.run(run())


def test_a_line_that_is_full_holds_a_stream_back_and_refuses_it_only_when_others_fill_it(
    new_streams: Callable[[int], tuple[PushStreams, PushLine]], log: Log
) -> None:
    async def run() -> None:
        streams, line = new_streams(2 * SIZE)
        sender = Sender(*numbers(9))
        told = asyncio.create_task(answers_of(streams, sender))
        await until(lambda: sender.read == 3 and log.transactions != [])
        log.may.set()
        assert await told == (numbers(9), None)
        with line.place("meters", 2 * SIZE):
            ids, error = await answers_of(streams, Sender("0", "9", "10"))
        assert (ids, type(error)) == (["0"], Overloaded), "a batch that is known needs no place"
        assert str(error).startswith("batch '9': ")
        assert await answers_of(streams, Sender("9")) == (["9"], None)

    asyncio.run(run())


def test_batches_that_are_known_are_not_held_behind_one_that_is_not(
    new_streams: Callable[[int], tuple[PushStreams, PushLine]], log: Log
) -> None:
    async def run() -> None:
        streams, _ = new_streams(10**6)
        log.known = {batch_id: PushAccepted(batch_id=batch_id, accepted=1) for batch_id in numbers(30)}
        sender = Sender("new", *numbers(30), more=bytes(4 * 2**20))
        before = psutil.Process().memory_info().rss
        told = asyncio.create_task(answers_of(streams, sender))
        await until(lambda: sender.read == 31 and log.transactions != [])
        assert psutil.Process().memory_info().rss - before < 60 * 2**20
        log.may.set()
        assert await told == (["new", *numbers(30)], None)

    asyncio.run(run())


def test_who_leaves_gives_up_the_places_and_who_is_stopped_is_told(
    new_streams: Callable[[int], tuple[PushStreams, PushLine]], log: Log
) -> None:
    async def run() -> None:
        streams, line = new_streams(3 * SIZE)
        sender = Sender(*numbers(9))
        leaving = asyncio.create_task(answers_of(streams, sender))
        await until(lambda: sender.read == 4)
        leaving.cancel()
        await asyncio.wait([leaving])
        with line.place("meters", 3 * SIZE):
            log.may.set()
        waits = Sender("0", "1", then=asyncio.Event())
        async with aclosing(streams.answered(aiter(waits))) as answers:  # type: ignore[type-var]
            assert [(await anext(answers)).batch_id for _ in range(2)] == ["0", "1"]
            streams.stop()
            with pytest.raises(Unavailable, match="this instance of ingestion stops"):
                await anext(answers)
        ids, error = await answers_of(streams, Sender("2"))
        assert (ids, type(error)) == ([], Unavailable)

    asyncio.run(run())


def test_what_is_refused_keeps_nothing_before_it_from_being_written(
    new_streams: Callable[[int], tuple[PushStreams, PushLine]], log: Log
) -> None:
    async def run() -> None:
        streams, _ = new_streams(10**6)
        log.refuses = lambda batches: batches > 1
        sender = Sender("a", "b", "b", "", "c")
        told = asyncio.create_task(answers_of(streams, sender))
        await until(lambda: sender.read == 4)
        log.may.set()
        ids, error = await told
        assert (ids, type(error)) == (["a", "b", "b"], InvalidInput)
        assert list(log.known) == ["a", "b"]
        log.refuses = lambda _: True
        ids, error = await answers_of(streams, Sender("a", "c"))
        assert (ids, str(error)) == (["a"], "batch 'c': Kafka does not take records now")

    asyncio.run(run())


class Replacing(ThreadPoolExecutor):
    """Checks batches, and puts another spec in force as the second one has begun."""

    def __init__(self, replace: Callable[[], None]) -> None:
        super().__init__(1)
        self._left, self._replace = 2, replace

    def submit(self, *task: Any, **named: Any) -> Any:
        self._left -= 1
        if not self._left:
            self._replace()
        return super().submit(*task, **named)


def test_no_batch_is_written_by_a_spec_of_before_those_that_were_checked_with_it(
    new_intake: Callable[..., Intake], log: Log
) -> None:
    async def run() -> None:
        second, third = (Entrance(new_intake(stream=f"maxAhead: {hours}h"), 1) for hours in (1, 2))
        accepted: Any = log
        entrances = {"meters": Entrance(new_intake(), 1)}
        desk = PushDesk(entrances, accepted, ThreadPoolExecutor(1), PushLine(10**6))
        requests = [pb.PushRequest(pipeline="meters", batch_id=each, records=[RECORD]) for each in "ab"]
        checked = [await desk.checked(each) for each in requests]
        entrances["meters"] = replace(second, checking=Replacing(lambda: entrances.update(meters=third)))
        log.may.set()
        await desk.written(checked)
        digests = [RecordBatch.FromString(each.value).spec_digest for each in log.sent]
        assert digests == [third.intake.pipeline.digest] * 2

    asyncio.run(run())
