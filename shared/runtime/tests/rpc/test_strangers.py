"""Connections of strangers, byte by byte: what no client of gRPC would send, and what breaks off."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from headrace_runtime.rpc import host as host_module
from headrace_runtime.rpc.call import Call
from headrace_runtime.rpc.host import GrpcHost

DATA, HEADERS, RESET, SETTINGS, PING = 0, 1, 3, 4, 6
ACK, END_STREAM, END_HEADERS = 1, 1, 4
MESSAGE = b"\0\0\0\0\1x"
CONNECTIONS = 50


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2 (RFC 9113)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def headers(path: bytes, **more: bytes) -> bytes:
    """Return the headers of a call, each as a literal without an index (RFC 7541)."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"test")]
    fields += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
    fields += [(name.encode(), value) for name, value in more.items()]
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


def call(path: bytes, stream: int = 1, **more: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, headers(path, **more))


OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
NOISE = random.Random(1).randbytes(500)
TAKEN_BACK = b"".join(
    call(b"/test.Strange/Echo", stream)
    + frame(DATA, END_STREAM, stream, MESSAGE)
    + frame(RESET, 0, stream, b"\0\0\0\x08")
    for stream in range(1, 400, 2)
)


class Strange:
    def __init__(self) -> None:
        self.left = threading.Event()

    async def wait(self, _request: bytes, _call: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        return b""

    async def echo(self, request: bytes, _call: Any) -> bytes:
        return request

    async def join(self, requests: Any, _call: Any) -> bytes:
        return b"".join([request async for request in requests])

    def handler(self) -> grpc.GenericRpcHandler:
        methods: dict[str, Any] = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
        }
        return grpc.method_handlers_generic_handler("test.Strange", methods)


@pytest.fixture
def strange() -> Strange:
    return Strange()


@pytest.fixture
def host(strange: Strange) -> Iterator[GrpcHost]:
    host = GrpcHost("127.0.0.1:0", [strange.handler()], [])
    host.start()
    yield host
    host.stop()


def answered(host: GrpcHost) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{host.port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        ask: Any = channel.unary_unary("/test.Strange/Echo")
        return bool(ask(b"still there", timeout=30) == b"still there")


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true"
        time.sleep(0.02)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_metadata_that_is_no_text_is_taken_and_fills_no_log(host: GrpcHost, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), socket.create_connection(("127.0.0.1", host.port)) as connection:
        sent = call(b"/test.Strange/Echo", strange=b"\xff\xfe") + frame(DATA, END_STREAM, 1, MESSAGE)
        connection.sendall(OPENING + sent)
        connection.settimeout(30)
        told = b""
        while b"grpc-status" not in told:
            told += connection.recv(65536)
    assert MESSAGE in told
    assert not [record for record in caplog.records if "ncoding" in record.getMessage()]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(NOISE, id="noise"),
        pytest.param(OPENING + NOISE, id="noise as frames"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", id="HTTP/1.1"),
        pytest.param(OPENING + call(b"/test.Strange/Echo"), id="a call without its message"),
        pytest.param(OPENING + call(b"/test.Strange/Echo") + frame(DATA, 0, 1, MESSAGE[:3]), id="half a message"),
        pytest.param(OPENING + call(b"/test.Strange/Join") + frame(DATA, 0, 1, MESSAGE * 3), id="half a stream"),
        pytest.param(OPENING + call(b"/\xff\0/\xfe"), id="a path that is none"),
        pytest.param(OPENING + TAKEN_BACK, id="calls that are taken back at once"),
    ],
)
def test_connections_that_break_off_leave_nothing(
    host: GrpcHost, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert answered(host)
    before = descriptors()
    with caplog.at_level(logging.WARNING):
        for _ in range(CONNECTIONS):
            with socket.create_connection(("127.0.0.1", host.port)) as connection:
                connection.sendall(sent)
        assert answered(host)
        until(lambda: descriptors() <= before)
        until(lambda: not any(type(each) is Call for each in gc.get_objects()))
    assert caplog.records == []


def frames(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, flags and payload of each frame that comes, until the other side is gone."""
    with connection.makefile("rb") as received:
        while head := received.read(9):
            yield head[3], head[4], received.read(int.from_bytes(head[:3], "big"))


def test_a_caller_that_vanished_without_a_word_is_noticed(strange: Strange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "PING_S", 0.05)
    monkeypatch.setattr(host_module, "PING_ANSWER_S", 0.2)
    host = GrpcHost("127.0.0.1:0", [strange.handler()], [])
    host.start()
    with socket.create_connection(("127.0.0.1", host.port)) as connection:
        connection.settimeout(30)
        connection.sendall(OPENING + call(b"/test.Strange/Wait") + frame(DATA, END_STREAM, 1, MESSAGE))
        answers = 0
        for kind, flags, payload in frames(connection):
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0))
            if kind == PING and not flags & ACK and answers < 5:
                assert not strange.left.is_set()
                connection.sendall(frame(PING, ACK, 0, payload))
                answers += 1
        assert answers == 5
        assert strange.left.wait(30)
    host.stop()
