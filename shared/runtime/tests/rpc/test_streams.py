"""Streams whose callers leave, are refused, or read slowly."""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from headrace_runtime.rpc import tasks
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.tls_files import Limits, Listening

MEBIBYTE = 1024 * 1024
PUSHBACK = ("grpc-retry-pushback-ms", "1000")


class Sums:
    """Adds up streams of numbers, and notes which of them came to an end."""

    def __init__(self) -> None:
        self.sent = 0
        self.began: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def sum(self, requests: AsyncIterator[bytes], _call: Any) -> bytes:
        how, total = "cut", 0
        try:
            async for request in requests:
                total += int(request)
                self.began.put(total)
            how = "complete"
        finally:
            self.ended.put(how)
        return str(total).encode()

    async def flood(self, _request: bytes, _call: Any) -> AsyncIterator[bytes]:
        for _ in range(1_000):
            self.sent += 1
            yield bytes(MEBIBYTE)


@pytest.fixture
def sums() -> Sums:
    return Sums()


@pytest.fixture
def channel(sums: Sums) -> Iterator[Any]:
    methods: dict[str, Any] = {
        "Sum": grpc.stream_unary_rpc_method_handler(sums.sum),
        "Flood": grpc.unary_stream_rpc_method_handler(sums.flood),
    }
    handler = grpc.method_handlers_generic_handler("test.Sums", methods)
    host = GrpcHost("127.0.0.1:0", [handler], [], max_message_bytes=MEBIBYTE)
    host.start()
    with grpc.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield channel
    host.stop()


@pytest.mark.parametrize(
    ("how", "calls"), [("the caller left", 300), pytest.param("a message was too large", 10, marks=pytest.mark.slow)]
)
def test_a_stream_that_was_cut_is_never_taken_for_a_complete_one(
    sums: Sums, channel: Any, how: str, calls: int
) -> None:
    for _ in range(calls):
        gone = threading.Event()

        def requests(gone: threading.Event = gone) -> Iterator[bytes]:
            yield b"40"
            if "large" in how:
                yield bytes(MEBIBYTE + 1)
            gone.wait(30)

        waiting = channel.stream_unary("/test.Sums/Sum").future(requests(), timeout=30)
        assert sums.began.get(timeout=30) == 40
        if "left" in how:
            waiting.cancel()
        assert sums.ended.get(timeout=30) == "cut"
        expected = grpc.StatusCode.CANCELLED if "left" in how else grpc.StatusCode.RESOURCE_EXHAUSTED
        assert waiting.code() is expected
        gone.set()


def test_a_complete_stream_is_complete(sums: Sums, channel: Any) -> None:
    assert channel.stream_unary("/test.Sums/Sum")(iter([b"40", b"2"]), timeout=30) == b"42"
    assert sums.ended.get(timeout=30) == "complete"


@pytest.fixture
def silent_s() -> float:
    return tasks.SILENT_S


@pytest.fixture
def two_streams(sums: Sums, silent_s: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A channel to a server that takes two streams of requests at a time."""
    monkeypatch.setattr(tasks, "SILENT_S", silent_s)
    handler = grpc.method_handlers_generic_handler("test.Sums", {"Sum": grpc.stream_unary_rpc_method_handler(sums.sum)})
    host = GrpcHost(Listening("127.0.0.1:0", limits=Limits(streams=2)), [handler], [])
    host.start()
    with grpc.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield channel
    host.stop()


class Stream:
    """A stream that is held open; it has sent its first number, and the server has read it."""

    def __init__(self, sums: Sums, channel: Any) -> None:
        self._numbers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sums = sums
        self.answer = channel.stream_unary("/test.Sums/Sum").future(iter(self._numbers.get, None), timeout=60)
        self.send(1)

    def send(self, number: int) -> None:
        self._numbers.put(str(number).encode())
        self._sums.began.get(timeout=30)

    def end(self) -> int:
        self._numbers.put(None)
        return int(self.answer.result())


def test_one_stream_more_than_may_be_is_refused(sums: Sums, two_streams: Any) -> None:
    first, second = Stream(sums, two_streams), Stream(sums, two_streams)
    refused = two_streams.stream_unary("/test.Sums/Sum").future(iter([b"1"]), timeout=30)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 streams of requests are open" in refused.details()
    assert PUSHBACK in refused.trailing_metadata()
    assert (first.end(), second.end()) == (1, 1)
    assert Stream(sums, two_streams).end() == 1, "an ended stream keeps its place"


@pytest.mark.parametrize("silent_s", [0.0])
def test_the_stream_that_was_silent_for_longest_gives_way(sums: Sums, two_streams: Any) -> None:
    first, second = Stream(sums, two_streams), Stream(sums, two_streams)
    first.send(1)  # so the second one is silent for longer
    third = Stream(sums, two_streams)
    assert second.answer.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "nothing was sent" in second.answer.details()
    assert PUSHBACK in second.answer.trailing_metadata(), "it may come again"
    assert sums.ended.get(timeout=30) == "cut", "its method takes it for a complete one"
    assert (first.end(), third.end()) == (2, 1)


def test_no_more_is_made_than_the_caller_reads(sums: Sums, channel: Any) -> None:
    # How many are on their way depends on the windows that gRPC opens, by what it measures of the connection.
    answers = channel.unary_stream("/test.Sums/Flood")(b"", timeout=60)
    for read in range(1, 51):
        assert len(next(answers)) == MEBIBYTE
        assert sums.sent < read + 200
    answers.cancel()
