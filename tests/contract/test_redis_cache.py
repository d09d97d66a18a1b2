"""What the cache adapter promises, on a real Valkey and without one."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from headrace_runtime.cache.redis_cache import MAX_BATCH, CircuitBreaker, Outcome, RedisCache
from headrace_runtime.errors import InvalidInput

pytestmark = pytest.mark.contract

SLACK_S = 5.0
"""Time-out for tests on the real cache: this machine may be busy, and slowness is not what they are about."""


@pytest.fixture
def url(broker: Any) -> str:
    return str(broker.redis_url)


@pytest.fixture
def prefix() -> bytes:
    return f"test:{uuid.uuid4()}:".encode()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}"


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@asynccontextmanager
async def cache(url: str, *, ttl_s: float = 60.0, timeout_s: float = SLACK_S, **more: Any) -> AsyncIterator[RedisCache]:
    async with RedisCache(url, prefix=b"test:", ttl_s=ttl_s, timeout_s=timeout_s, **more) as opened:
        yield opened


def test_a_value_comes_back_whole(url: str, prefix: bytes) -> None:
    value = bytes(range(256)) * 1000

    async def story() -> None:
        async with cache(url) as opened:
            assert await opened.get(prefix) == (Outcome.MISS, None)
            opened.put(prefix, value)
            await opened.flush()
            assert await opened.get(prefix) == (Outcome.HIT, value)

    run(story)


def test_values_end(url: str, prefix: bytes) -> None:
    async def story() -> None:
        async with cache(url, ttl_s=100.0) as opened:
            opened.put(prefix, b"x")
            opened.put(prefix + b"longer", b"x", ttl_s=1000.0)

    run(story)
    client = redis.Redis.from_url(url)
    left_ms, longer_ms = client.pttl(prefix), client.pttl(prefix + b"longer")
    client.close()
    assert isinstance(left_ms, int)
    assert isinstance(longer_ms, int)
    assert 90_000 < left_ms <= 100_000
    assert 900_000 < longer_ms <= 1_000_000


def test_what_waits_is_written_before_the_end(url: str, prefix: bytes) -> None:
    async def story() -> None:
        async with cache(url) as opened:
            for number in range(3 * MAX_BATCH):
                opened.put(prefix + str(number).encode(), str(number).encode())

    run(story)
    client = redis.Redis.from_url(url)
    kept = client.mget([prefix + str(number).encode() for number in range(3 * MAX_BATCH)])
    assert kept == [str(number).encode() for number in range(3 * MAX_BATCH)]
    client.close()


def test_look_ups_at_the_same_time_share_calls(url: str, prefix: bytes) -> None:
    client = redis.Redis.from_url(url)

    def calls() -> int:
        return int(client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])

    async def story() -> None:
        async with cache(url) as opened:
            opened.put(prefix + b"7", b"seven")
            await opened.flush()
            before = calls()
            answers = await asyncio.gather(*(opened.get(prefix + str(n % 10).encode()) for n in range(2 * MAX_BATCH)))
            assert [answer.value for answer in answers[:10]] == [None] * 7 + [b"seven"] + [None] * 2
            assert [answer.outcome for answer in answers].count(Outcome.HIT) == len(answers[7::10])
            assert calls() - before == 2

    run(story)
    client.close()


def test_a_caller_that_leaves_takes_no_other_along(url: str, prefix: bytes) -> None:
    async def story() -> None:
        async with cache(url) as opened:
            left, stays = (asyncio.create_task(opened.get(prefix)) for _ in range(2))
            await asyncio.sleep(0)
            left.cancel()
            assert (await stays).outcome is Outcome.MISS
            assert left.cancelled()

    run(story)


def test_without_a_server_nothing_raises(free_address: str) -> None:
    async def story() -> None:
        async with cache(f"redis://{free_address}", breaker=CircuitBreaker(3, 60.0)) as opened:
            opened.put(b"k", b"v")
            outcomes = [(await opened.get(b"k")).outcome for _ in range(4)]
            assert outcomes.count(Outcome.ERROR) <= 2
            assert outcomes[-1] is Outcome.SKIPPED

    run(story)


def test_a_silent_server_costs_no_more_than_the_time_outs(silent_server: str) -> None:
    async def story() -> None:
        async with cache(silent_server, timeout_s=0.02, breaker=CircuitBreaker(2, 60.0)) as opened:
            started = time.monotonic()
            assert (await opened.get(b"k")).outcome is Outcome.ERROR
            assert time.monotonic() - started < 1.0
            assert (await opened.get(b"k")).outcome is Outcome.SKIPPED

    run(story)


def test_the_cache_is_used_again_once_it_is_back(url: str, prefix: bytes) -> None:
    now = [0.0]
    breaker = CircuitBreaker(1, 10.0, clock=lambda: now[0])

    async def story() -> None:
        async with cache(url, breaker=breaker) as opened:
            breaker.failed()
            assert (await opened.get(prefix)).outcome is Outcome.SKIPPED
            now[0] = 10.0
            assert (await opened.get(prefix)).outcome is Outcome.MISS
            assert (await opened.get(prefix)).outcome is Outcome.MISS

    run(story)


def test_too_many_waiting_writes_are_dropped(url: str, prefix: bytes) -> None:
    async def story() -> None:
        async with cache(url, max_waiting=2) as opened:
            for name in (b"1", b"2", b"3"):
                opened.put(prefix + name, name)
            await opened.flush()
            assert [(await opened.get(prefix + name)).value for name in (b"1", b"2", b"3")] == [b"1", b"2", None]

    run(story)


def test_a_wrong_url_is_explained_without_its_password() -> None:
    with pytest.raises(InvalidInput, match="Redis URL must specify one of the following schemes") as caught:
        RedisCache("http://user:secret@valkey.example", prefix=b"test:", ttl_s=1.0)
    assert "secret" not in str(caught.value)


@pytest.fixture
def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"
