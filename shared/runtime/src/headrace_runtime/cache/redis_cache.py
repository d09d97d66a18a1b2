"""A cache in Redis or Valkey that may be slow, full or gone at any moment without anything else going wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, Self

import redis.asyncio as redis
from prometheus_client import Counter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError

from headrace_runtime.cache.redis_check import check_redis
from headrace_runtime.cache.redis_url import client_url
from headrace_runtime.errors import InvalidInput

logger = logging.getLogger(__name__)

MAX_BATCH = 128
"""Keys in one MGET, and values in one pipeline of SETs."""

WRITES = Counter(
    "headrace_cache_writes",
    "Values handed to the cache: stored, failed, or dropped before they were sent.",
    ("outcome",),
)


class Outcome(StrEnum):
    """How a look-up ended."""

    HIT = "hit"
    MISS = "miss"
    ERROR = "error"
    """The cache did not answer, or not in time."""
    SKIPPED = "skipped"
    """The cache was not asked, because it failed too often just before."""


class Lookup(NamedTuple):
    """The answer to a look-up; `value` is None unless the outcome is a hit."""

    outcome: Outcome
    value: bytes | None = None


_SKIPPED = Lookup(Outcome.SKIPPED)
_ERROR = Lookup(Outcome.ERROR)
_MISS = Lookup(Outcome.MISS)


class CircuitBreaker:
    """Turns calls away for `pause_s` seconds after `failures` failures in a row, then lets one through to try.

    The pattern is M. Nygard's (Release It!, 2007). `clock` returns seconds. Used in one thread only.
    """

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.pause_s = pause_s
        self._limit = failures
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        """Tell whether a call may be made now; a True after a pause stands for the one try."""
        if self._failures < self._limit:
            return True
        now = self._clock()
        if now < self._open_until:
            return False
        self._open_until = now + self.pause_s
        return True

    def succeeded(self) -> bool:
        """Record that a call worked; tell whether that ends a pause."""
        ended = self._failures >= self._limit
        self._failures = 0
        return ended

    def failed(self) -> bool:
        """Record that a call failed; tell whether that begins a pause after calls were let through."""
        self._failures += 1
        if self._failures >= self._limit:
            self._open_until = self._clock() + self.pause_s
        return self._failures == self._limit


class RedisCache:
    """Bytes by key. No method raises because of the cache; each is used in one event loop only.

    All keys begin with `prefix`.

    Look-ups that come while another is on its way travel together in one MGET, which costs a tenth of as many GETs.
    Writes are queued, `max_waiting` at most, and sent in pipelines. Connections, reads and writes may take `timeout_s`
    seconds each, and values live for `ttl_s` seconds unless they are put with another time to live.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: bytes,
        ttl_s: float,
        timeout_s: float = 0.02,
        breaker: CircuitBreaker | None = None,
        max_waiting: int = 1000,
    ) -> None:
        self._url = client_url(url)
        try:
            self._client = redis.Redis.from_url(
                self._url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                max_connections=4,
            )
        except ValueError as error:
            # The URL itself may hold a password.
            raise InvalidInput(f"Redis URL: {error}; Sentinels and clusters are not spoken to") from error
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._breaker = breaker or CircuitBreaker(failures=5, pause_s=2.0)
        self._max_waiting = max_waiting
        self._asked: list[tuple[bytes, asyncio.Future[Lookup]]] = []
        self._kept: deque[tuple[bytes, bytes, int]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Look at what the server is, and connect, so that the first look-up need not.

        Raises FailedPrecondition when it answers and can never be the cache, see `redis_check`.
        """
        await check_redis(self._url, self._prefix)
        await self._attempt(self._client.ping)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what is waiting, then close the connections."""
        for task in (self._reading, self._writing):
            if task is not None:
                await task
        await self._client.aclose()

    async def get(self, key: bytes) -> Lookup:
        """Look a key up."""
        if not self._breaker.allows():
            return _SKIPPED
        answer: asyncio.Future[Lookup] = asyncio.get_running_loop().create_future()
        self._asked.append((key, answer))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await answer

    def put(self, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        """Keep a value, soon, for `ttl_s` seconds (None: the cache's own).

        It is dropped when too many wait already, or while the cache is left alone.
        """
        if len(self._kept) >= self._max_waiting or not self._breaker.allows():
            WRITES.labels("dropped").inc()
            return
        self._kept.append((key, value, max(1, int((ttl_s or self._ttl_s) * 1000))))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def flush(self) -> None:
        """Return once everything that was put before has been sent."""
        if self._writing is not None:
            await self._writing

    async def _read(self) -> None:
        while self._asked:
            batch, self._asked = self._asked[:MAX_BATCH], self._asked[MAX_BATCH:]
            keys = [key for key, _ in batch]
            values = await self._attempt(partial(self._client.mget, keys))
            for position, (_, answer) in enumerate(batch):
                if not answer.done():  # its caller may have gone
                    answer.set_result(_ERROR if values is None else _lookup(values[position]))
        self._reading = None

    async def _write(self) -> None:
        while self._kept:
            batch = [self._kept.popleft() for _ in range(min(MAX_BATCH, len(self._kept)))]
            pipeline = self._client.pipeline(transaction=False)
            for key, value, ttl_ms in batch:
                pipeline.set(key, value, px=ttl_ms)
            stored = await self._attempt(pipeline.execute)
            WRITES.labels("failed" if stored is None else "stored").inc(len(batch))
        self._writing = None

    async def _attempt(self, call: Callable[[], Any]) -> Any:
        try:
            answer = await call()
        except Exception as error:  # whatever it is, callers go on without the cache
            if isinstance(error, ReadOnlyError):
                # A failover made it a replica: its name may lead to another server by now.
                await self._client.connection_pool.disconnect()
            if self._breaker.failed():
                logger.warning("the cache is left alone for %s s: %r", self._breaker.pause_s, error)
            return None
        if self._breaker.succeeded():
            logger.info("the cache answers again")
        return answer


def _lookup(value: bytes | None) -> Lookup:
    return _MISS if value is None else Lookup(Outcome.HIT, value)
