"""Hot predictions in Redis: answers that were given before, by the digest of the graph and the inputs."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from headrace_runtime.cache.redis_cache import Outcome, RedisCache
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import child_span

from headrace_inference.adapters.metrics import CACHE
from headrace_inference.core.cache_key import seal, unseal


class HotPredictions:
    """Keeps and finds answers; without a cache it finds nothing. Used in one event loop."""

    def __init__(self, cache: RedisCache | None) -> None:
        self._cache = cache

    async def __aenter__(self) -> Self:
        if self._cache is not None:
            await self._cache.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._cache is not None:
            await self._cache.__aexit__(kind, error, traceback)

    async def get(self, model: str, key: bytes) -> bytes | None:
        """Return an answer that was kept under the key, or None."""
        if self._cache is None:
            return None
        with child_span(names.SPAN_CACHE_GET) as current:
            outcome, value = await self._cache.get(key)
            payload = None if value is None else unseal(key, value)
            found = "corrupt" if outcome is Outcome.HIT and payload is None else outcome.value
            CACHE.labels(model, found).inc()
            if current is not None:
                current.set_attribute(names.CACHED, payload is not None)
            return payload

    def put(self, key: bytes, payload: bytes, ttl_s: float | None = None) -> None:
        """Keep an answer for `ttl_s` seconds (None: as long as the cache keeps values), off the caller's path."""
        if self._cache is not None:
            self._cache.put(key, seal(key, payload), ttl_s)

    async def keep_for_measuring(self, key: bytes, value: bytes) -> bool:
        """Keep a value that is no prediction, now; return whether there is a cache."""
        if self._cache is None:
            return False
        self.put(key, value)
        await self._cache.flush()
        return True

    async def look_up(self, key: bytes) -> bytes | None:
        """Return what is kept under the key, or None; a look-up that is not counted."""
        value = None if self._cache is None else (await self._cache.get(key)).value
        return None if value is None else unseal(key, value)
