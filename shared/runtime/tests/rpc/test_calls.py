"""Calls on their way through the host: answered as they arrive or in the event loop, left, late, wrong, many."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from headrace.ingestion.v1.ingestion_service_pb2 import PushRequest
from headrace_runtime import errors
from headrace_runtime.rpc.call import Call
from headrace_runtime.rpc.core import Core
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.rpc.methods import WithInline
from headrace_runtime.telemetry import setup as telemetry
from headrace_runtime.tls_files import Listening
from prometheus_client import REGISTRY

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MEBIBYTE = 1024 * 1024


class Service:
    """Methods that show where they run, wait, or fail; bytes in and bytes out."""

    def __init__(self) -> None:
        self.began, self.cancelled = threading.Event(), threading.Event()
        self.left_s: list[float | None] = []

    def where_now(self, request: bytes, call: Call) -> bytes | None:
        self.left_s.append(call.time_remaining())
        if request == b"later":
            return None
        if request == b"wrong":
            raise errors.InvalidInput("said at once")
        if request == b"bug":
            raise KeyError("a secret")
        if request == b"end":
            raise SystemExit(3)
        if request.startswith(b"long "):
            raise errors.NotFound(request.decode() * 20_000)
        call.set_trailing_metadata((("told", "at once"),))
        return threading.current_thread().name.encode()

    async def where(self, _request: bytes, call: Any) -> bytes:
        self.left_s.append(call.time_remaining())
        call.set_trailing_metadata((("told", "in the loop"),))
        return threading.current_thread().name.encode()

    async def wait(self, _request: bytes, _call: Any) -> bytes:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return b""

    async def sum(self, requests: AsyncIterator[bytes], _call: Any) -> bytes:
        return str(sum([int(request) async for request in requests])).encode()

    async def count(self, request: bytes, _call: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield bytes(number)

    async def echo(self, request: bytes, _call: Any) -> bytes:
        return request

    async def large(self, _request: bytes, _call: Any) -> bytes:
        return bytes(8 * MEBIBYTE + 1)

    async def misled(self, request: bytes, call: Any) -> bytes:
        call.set_trailing_metadata((("No Key", "x"),))
        return request

    def handler(self) -> grpc.GenericRpcHandler:
        methods: dict[str, Any] = {
            "Where": grpc.unary_unary_rpc_method_handler(self.where),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Large": grpc.unary_unary_rpc_method_handler(self.large),
            "Misled": grpc.unary_unary_rpc_method_handler(self.misled),
            "Parsed": grpc.unary_unary_rpc_method_handler(
                self.echo, PushRequest.FromString, PushRequest.SerializeToString
            ),
        }
        handler = grpc.method_handlers_generic_handler("test.Calls", methods)
        return WithInline(handler, {"/test.Calls/Where": self.where_now})


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def host(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrpcHost]:
    monkeypatch.setattr(telemetry._choice, "sampler", telemetry.RootSampler(0.0))
    host = GrpcHost("127.0.0.1:0", [service.handler()], ["test.Calls"], 8 * MEBIBYTE)
    host.start()
    yield host
    host.stop()


@pytest.fixture
def channel(host: GrpcHost) -> Iterator[Any]:
    limit = [("grpc.max_receive_message_length", 8 * MEBIBYTE)]
    with grpc.insecure_channel(f"127.0.0.1:{host.port}", limit) as channel:
        yield channel


def where(channel: Any, request: bytes = b"", metadata: Any = (), timeout_s: float | None = 10) -> tuple[str, str]:
    """Return the thread that answered, and what it told in the metadata."""
    answer, call = channel.unary_unary("/test.Calls/Where").with_call(request, timeout=timeout_s, metadata=metadata)
    return answer.decode(), dict(call.trailing_metadata())["told"]


def test_a_call_is_answered_where_it_arrives_or_in_the_loop(host: GrpcHost, channel: Any) -> None:
    assert where(channel) == ("grpc calls", "at once")
    assert where(channel, b"later") == (host.name, "in the loop")


def test_a_call_whose_trace_is_recorded_goes_to_the_loop(host: GrpcHost, channel: Any) -> None:
    assert where(channel, metadata=(("traceparent", TRACEPARENT),)) == (host.name, "in the loop")


@pytest.mark.parametrize("traceparent", [TRACEPARENT[:-2] + "00", "rubbish"])
def test_a_call_whose_caller_records_no_trace_is_answered_where_it_arrives(channel: Any, traceparent: str) -> None:
    assert where(channel, metadata=(("traceparent", traceparent),)) == ("grpc calls", "at once")


def test_a_trace_that_was_chosen_where_the_call_arrived_is_recorded_in_the_loop(
    host: GrpcHost, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = telemetry.RootSampler(1.0)
    monkeypatch.setattr(telemetry._choice, "sampler", sampler)
    recorded: list[str] = []
    monkeypatch.setattr(sampler, "record", lambda: recorded.append(threading.current_thread().name))
    assert where(channel) == (host.name, "in the loop")
    assert recorded == [host.name]


def test_a_call_is_counted_once_wherever_it_is_answered(host: GrpcHost, channel: Any) -> None:
    def counted(code: str) -> float:
        labels = {"rpc_service": "test.Calls", "rpc_method": "Where", "rpc_status_code": code}
        return REGISTRY.get_sample_value("headrace_rpc_server_call_duration_seconds_count", labels) or 0.0

    ok, wrong, calls = counted("OK"), counted("INVALID_ARGUMENT"), host._telemetry.calls
    where(channel)
    where(channel, b"later")
    with pytest.raises(grpc.RpcError):
        where(channel, b"wrong")
    assert (counted("OK"), counted("INVALID_ARGUMENT"), host._telemetry.calls) == (ok + 2, wrong + 1, calls + 3)


@pytest.mark.parametrize(
    ("request_", "code", "details"),
    [
        (b"wrong", grpc.StatusCode.INVALID_ARGUMENT, "said at once"),
        (b"bug", grpc.StatusCode.INTERNAL, "internal error, reference "),
    ],
)
def test_errors_of_calls_that_are_answered_at_once_have_their_status(
    channel: Any, request_: bytes, code: grpc.StatusCode, details: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        where(channel, request_)
    assert caught.value.code() is code
    assert str(caught.value.details()).startswith(details)
    assert where(channel) == ("grpc calls", "at once")


def test_no_call_ends_the_thread_that_others_arrive_in(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        where(channel, b"end")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert where(channel) == ("grpc calls", "at once")


@pytest.mark.parametrize("text", ["long ", "long %", "long é", "long \N{GRINNING FACE}"])
def test_a_long_error_arrives_with_its_status(channel: Any, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        where(channel, text.encode())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    details = str(caught.value.details())
    assert details.endswith(" […]")
    assert (text * 20_000).startswith(details.removesuffix(" […]"))
    assert len(details) > 500


def test_methods_know_how_long_their_caller_waits(service: Service, channel: Any) -> None:
    for timeout_s in (None, 30.0):
        where(channel, b"later", timeout_s=timeout_s)
    without, also_without, at_once, later = service.left_s
    assert without is also_without is None
    assert at_once is not None
    assert later is not None
    assert 20 < later <= at_once < 31  # gRPC rounds up


@pytest.mark.parametrize("how", ["the caller left", "the deadline passed"])
def test_a_call_that_nobody_waits_for_is_cancelled(service: Service, channel: Any, how: str) -> None:
    waiting = channel.unary_unary("/test.Calls/Wait").future(b"", timeout=0.5 if "deadline" in how else 30)
    assert service.began.wait(10)
    if "left" in how:
        waiting.cancel()
    assert service.cancelled.wait(10)


def test_calls_that_outlast_the_grace_are_cancelled(service: Service) -> None:
    host = GrpcHost("127.0.0.1:0", [service.handler()], [], grace_s=0.1)
    host.start()
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{host.port}")
    with dial as channel:
        waiting = channel.unary_unary("/test.Calls/Wait").future(b"", timeout=30)
        assert service.began.wait(10)
        host.stop()
        assert service.cancelled.is_set()
        assert waiting.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_requests_and_answers_may_be_streams(channel: Any) -> None:
    assert channel.stream_unary("/test.Calls/Sum")(iter([b"1", b"2", b"39"]), timeout=10) == b"42"
    assert [len(each) for each in channel.unary_stream("/test.Calls/Count")(b"300", timeout=10)] == list(range(300))
    assert list(channel.unary_stream("/test.Calls/Count")(b"0", timeout=10)) == []


def test_a_method_of_one_request_needs_it(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary("/test.Calls/Echo")(iter(()), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "/test.Calls/Echo takes exactly one request"


def test_bytes_that_are_no_request_are_refused(channel: Any) -> None:
    parsed = channel.unary_unary("/test.Calls/Parsed")
    assert parsed(PushRequest(pipeline="digits").SerializeToString(), timeout=10) == b"\x0a\x06digits"
    with pytest.raises(grpc.RpcError) as caught:
        parsed(b"\xff\xff", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the bytes are no request of this method" in str(caught.value.details())


def test_large_messages_pass_both_ways(channel: Any) -> None:
    large = bytes(range(256)) * 4096 * 7
    assert channel.unary_unary("/test.Calls/Echo")(large, timeout=30) == large
    compressed = channel.unary_unary("/test.Calls/Echo")(large, timeout=30, compression=grpc.Compression.Gzip)
    assert compressed == large


def test_what_grows_beyond_the_limit_when_it_is_unpacked_is_refused(channel: Any) -> None:
    for size, code in ((8 * MEBIBYTE, grpc.StatusCode.OK), (8 * MEBIBYTE + 1, grpc.StatusCode.RESOURCE_EXHAUSTED)):
        echo = channel.unary_unary("/test.Calls/Echo").future(
            bytes(size), timeout=30, compression=grpc.Compression.Gzip
        )
        assert echo.code() is code


@pytest.mark.parametrize(
    ("method", "code"), [("Large", grpc.StatusCode.RESOURCE_EXHAUSTED), ("Misled", grpc.StatusCode.INTERNAL)]
)
def test_an_answer_that_cannot_be_sent_ends_its_call(channel: Any, method: str, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/test.Calls/{method}")(b"", timeout=30)
    assert caught.value.code() is code


@pytest.mark.slow
def test_nothing_of_many_calls_is_kept(channel: Any, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    def call(number: int) -> None:
        request = (b"", b"later", b"wrong")[number % 3]
        if number % 5:
            waiting = channel.unary_unary("/test.Calls/Where").future(request, timeout=30)
            waiting.code()
        else:  # left at any moment
            channel.unary_unary("/test.Calls/Wait").future(request, timeout=30).cancel()

    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(8) as callers:
        list(callers.map(call, range(3_000)))
    deadline_s = time.monotonic() + 10
    while (kept := list(map(type, gc.get_objects())).count(Call)) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert kept == 0
    assert caplog.records == []


def test_calls_are_answered_until_the_host_stops_and_never_after(service: Service) -> None:
    """Under load, every call is answered or told that the server is gone, and the host comes to its end."""
    host = GrpcHost("127.0.0.1:0", [service.handler()], [], grace_s=5.0)
    host.start()
    codes: set[grpc.StatusCode] = set()
    first = threading.Event()

    def load() -> None:
        dial: Any = grpc.insecure_channel(f"127.0.0.1:{host.port}", [("grpc.use_local_subchannel_pool", 1)])
        with dial as channel:
            ask = channel.unary_unary("/test.Calls/Where")
            while codes <= {grpc.StatusCode.OK}:
                for request in (b"", b"later"):
                    codes.add(ask.future(request, timeout=10).code())
                first.set()

    loads = [threading.Thread(target=load) for _ in range(4)]
    for each in loads:
        each.start()
    assert first.wait(10)
    host.stop()
    for each in loads:
        each.join(20)
        assert not each.is_alive()
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_a_host_that_cannot_listen_everywhere_listens_nowhere(service: Service, host: GrpcHost) -> None:
    taken = f"127.0.0.1:{host.port}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    half = GrpcHost(Listening(address, health_address=taken), [service.handler()], [])
    with pytest.raises(errors.Unavailable, match=f"cannot listen on {taken}"):
        half.start()
    half.stop()
    again = GrpcHost(address, [service.handler()], [])
    again.start()
    again.stop()


def test_a_call_that_is_held_has_its_grace_and_no_more() -> None:
    arrived: queue.SimpleQueue[Call] = queue.SimpleQueue()
    line: Any = SimpleNamespace(room=16, due_s=None, arrived=arrived.put)
    server = Core([], line)
    port = server.bind("127.0.0.1:0", None)
    server.start()
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{port}")
    with dial as channel:
        waiting = channel.unary_unary("/test.Held/Held").future(b"", timeout=30)
        held = arrived.get(timeout=10)
        server.stop(0.1)
        assert waiting.code() is not grpc.StatusCode.OK
    held.answer(b"too late")
    server.close()
