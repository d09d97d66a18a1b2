"""What hostile callers of the REST port could take from others: time, memory, and places."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from headrace_inference.transport.rest import server as rest
from headrace_inference.transport.rest.caller import Bodies
from headrace_inference.transport.rest.connection import Connection
from headrace_inference.transport.rest.problems import SlowRequest
from headrace_inference.transport.rest.reading import read_call
from headrace_runtime.errors import InvalidInput

INFER = b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, rest_server: Callable[..., Any]) -> Iterator[Any]:
    server = rest_server(tmp_path_factory.mktemp("rest"))
    yield server
    server.host.stop()


def of_shape(dimensions: int) -> str:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2**62] * dimensions, "data": []}
    return json.dumps({"inputs": [tensor]})


def twice(*names: int) -> str:
    return json.dumps(dict.fromkeys(map(str, names)))[:-1] + f', "{names[-1]}": null' + "}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        # Each of them once took time by the square of its length.
        (twice(*range(100_000)), "expected each name once, got '99999'"),
        (of_shape(50_000), "at most 64 dimensions, got 50000"),
        (of_shape(65), "at most 64 dimensions, got 65"),
        (of_shape(64), "values for shape"),
    ],
)
def test_a_body_costs_no_more_than_its_length(body: str, words: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidInput, match=words):
        read_call("digits", "", body.encode(), None)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("endless", [b"a: b\r\n", b"a"])
def test_trailers_are_bounded(server: Any, endless: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(INFER + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n")
        with suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(endless * (1024 * 1024 // len(endless)))
            pytest.fail("64 MiB of trailers were taken")


@pytest.mark.parametrize(
    ("status", "head", "more"),
    [
        (b"404", b"POST /v3 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9000000\r\n\r\n", b" "),
        (b"431", b"GET /v2 HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n"),
    ],
)
def test_who_is_refused_while_he_sends_reads_why(server: Any, status: bytes, head: bytes, more: bytes) -> None:
    """A socket that is closed with bytes unread is reset, and the answer may be lost."""
    more *= 100_000 // len(more)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head + more)
        select.select([connection], [], [], 5)  # it is answered
        for _ in range(5):
            connection.sendall(more)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close" in answer
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(more)
            pytest.fail("10 MB were taken")


def test_a_body_behind_an_upgrade_is_no_other_request(server: Any) -> None:
    body = b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n"
    head = INFER + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: %d\r\n\r\n" % len(body)
    answer = server.raw(head + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert (b"HTTP/1.1 200" in answer, b"without an upgrade" in answer) == (False, True)


def test_json_has_a_bound_of_its_own(tmp_path: Path, rest_server: Callable[..., Any]) -> None:
    server = rest_server(tmp_path, max_json_bytes=2000)
    tensor = {"name": "pixels", "datatype": "FP32", "shape": [8, 8, 8], "parameters": {"binary_data_size": 2048}}
    text = json.dumps({"inputs": [tensor]}).encode()
    for padded, expected in ((text, 200), (text.ljust(2001), 413)):
        sent = padded + bytes(2048)
        assert server.infer(sent, {"Inference-Header-Content-Length": str(len(padded))})[0] == expected
    for chunked in (False, True):
        status, _, told = server.infer(iter([text.ljust(2001)]) if chunked else text.ljust(2001))
        assert (status, "JSON may have 2000 bytes" in told["detail"]) == (413, True)
    server.host.stop()


def test_a_body_that_ends_in_time_gives_way_once() -> None:
    """The oldest of the bodies may be on its way out in the very moment in which it has to make room."""

    async def both() -> None:
        bodies = Bodies(1000, 0.15, 1)

        async def never() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        begun: dict[str, Any] = {"body": b"{", "more_body": True}

        async def old() -> None:
            first = [begun]
            with pytest.raises(SlowRequest):
                await bodies.read(lambda: asyncio.sleep(0, first.pop()) if first else never(), {})

        waiting = asyncio.create_task(old())
        while not bodies._unfinished:
            await asyncio.sleep(0)
        (limit,) = bodies._unfinished
        ends, clock = limit.when(), asyncio.get_running_loop().time
        assert ends is not None
        while clock() < ends:  # the loop stands still, and comes back here before it wakes the other
            pass
        await asyncio.sleep(0)
        answers: list[dict[str, Any]] = [{"body": b"}"}, begun]
        assert await bodies.read(lambda: asyncio.sleep(0, answers.pop()), {}) == b"{}"
        await waiting

    asyncio.run(both())


def test_who_does_not_read_is_left(
    tmp_path: Path, rest_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bound, connection_lost, lost = rest._bound, Connection.connection_lost, threading.Event()

    def lose(self: Connection, error: Exception | None) -> None:
        connection_lost(self, error)
        lost.set()

    def narrow(address: str) -> socket.socket:
        made = bound(address)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return made

    monkeypatch.setattr(rest, "_bound", narrow)
    monkeypatch.setattr(rest, "IDLE_S", 0.3)
    monkeypatch.setattr(Connection, "connection_lost", lose)
    server = rest_server(tmp_path)
    data = json.dumps({"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [64, 8, 8], "data": [0] * 4096}]})
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall((INFER + b"content-length: %d\r\n\r\n%b" % (len(data), data.encode())) * 16)
        assert lost.wait(10)
    server.host.stop()
    assert len(server.log.seen) < 16
    assert not caplog.records
