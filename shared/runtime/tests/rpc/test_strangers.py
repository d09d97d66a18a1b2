"""Connections of strangers, byte by byte: what no client of gRPC would send, and what breaks off."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from headrace_runtime.rpc import host as host_module
from headrace_runtime.rpc.call import Call
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.tls_files import Listening

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
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
        pytest.param(OPENING + TAKEN_BACK, id="calls that are taken back at once", marks=pytest.mark.slow),
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


def pinged(interval_s: float, least_s: float) -> bytes:
    """Ping a server 20 times at an interval; return what a GOAWAY said, empty when there was none."""
    host = GrpcHost(Listening("127.0.0.1:0", least_ping_interval_s=least_s), [Strange().handler()], [])
    host.start()
    said, pause = b"", threading.Event()
    with socket.create_connection(("127.0.0.1", host.port)) as connection:
        connection.settimeout(30)
        connection.sendall(OPENING + call(b"/test.Strange/Wait") + frame(DATA, END_STREAM, 1, MESSAGE))
        pings = 0
        for kind, flags, payload in frames(connection):
            if kind == GOAWAY:
                said = payload[8:]
                break
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0) + frame(PING, 0, 0, bytes(8)))
            elif kind == PING and flags & ACK:
                pings += 1
                if pings == 20:
                    break
                pause.wait(interval_s)
                connection.sendall(frame(PING, 0, 0, bytes(8)))
    host.stop()
    return said


def test_a_client_that_pings_as_often_as_it_may_stays() -> None:
    assert pinged(interval_s=0.02, least_s=0.01) == b""


def test_a_client_that_pings_all_the_time_goes() -> None:
    assert pinged(interval_s=0.0, least_s=60.0) == b"too_many_pings"


def test_clients_may_ping_far_more_often_than_they_do() -> None:
    """Ten seconds is what Go services and proxies set: jitter must not make it too often."""
    assert Listening("127.0.0.1:0").least_ping_interval_s <= 10.0 / 4


def test_the_core_knows_every_option_that_it_is_given() -> None:
    """An option that it does not know is passed over without a word."""
    sources = Path(host_module.__file__).parent.glob("*.py")
    named = {name for each in sources for name in re.findall(r'"(grpc\.[a-z0-9_.]+)"', each.read_text())}
    core = Path(cygrpc.__file__).read_bytes()
    assert len(named) > 5
    assert [name for name in sorted(named) if name.encode() not in core] == []


def certificates(folder: Path) -> tuple[Path, Path]:
    """Return a certificate that signs itself, and its key, as files."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate_file, key_file = folder / "tls.crt", folder / "tls.key"
    certificate_file.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.write_bytes(key.private_bytes(*plain))
    return certificate_file, key_file


FAILED_HANDSHAKES = """
import socket, sys
from pathlib import Path
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.tls_files import Listening, TlsFiles

host = GrpcHost(Listening("127.0.0.1:0", TlsFiles(Path(sys.argv[1]), Path(sys.argv[2]))), [], [])
host.start()
for junk in (b"GET / HTTP/1.1\\r\\n\\r\\n", b"\\x16\\x03\\x01\\x00\\x05hello", b"x" * 50):
    with socket.create_connection(("127.0.0.1", host.port)) as connection:
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
host.stop()
print("ended")
"""


def test_handshakes_that_fail_write_nothing(tmp_path: Path) -> None:
    certificate, key = certificates(tmp_path)
    command = [sys.executable, "-c", FAILED_HANDSHAKES, str(certificate), str(key)]
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
