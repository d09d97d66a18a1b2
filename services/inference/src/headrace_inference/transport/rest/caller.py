"""What a REST request tells of its caller, and how its body is read: within bounds of size and of time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from headrace_runtime.errors import InvalidInput, TooLarge

from headrace_inference.transport.rest.problems import SlowRequest

TIMEOUT = "headrace-timeout-ms"
"""Header: milliseconds that the caller waits for the answer, from the request's arrival on."""
JSON_BYTES = "inference-header-content-length"
MOST_TIMEOUT_MS = 10**9
PATIENCE_S = 0.1
"""Age from which a request that has not arrived whole gives way to another."""
DISCARD_S = 1.0
"""Seconds for which a body that is too large is read on, so that its sender comes to read the answer."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Caller:
    """The context of a call, as `ports.CallContext` has it."""

    __slots__ = ("_clock", "ends", "told")

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Raise InvalidInput for a time limit that is none."""
        self._clock = asyncio.get_running_loop().time
        timeout_ms = whole_number(headers, TIMEOUT)
        if timeout_ms is not None and not 0 < timeout_ms <= MOST_TIMEOUT_MS:
            raise InvalidInput(f"header {TIMEOUT}: expected milliseconds from 1 to {MOST_TIMEOUT_MS}, got {timeout_ms}")
        self.ends = None if timeout_ms is None else self._clock() + timeout_ms / 1e3
        """When the caller stops waiting, on the loop's clock; None for never."""
        self.told: tuple[tuple[str, str], ...] = ()
        """Headers of the answer."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller stops waiting; None without a limit."""
        return None if self.ends is None else self.ends - self._clock()

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Send metadata along with the answer, as headers."""
        self.told = metadata


def whole_number(headers: Mapping[str, str], name: str) -> int | None:
    """Return a header as a number from 0; None without it. Raises InvalidInput for anything else."""
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidInput(f"header {name}: expected a whole number, got {text[:64]!r}")
    return int(text)


class Bodies:
    """Reads bodies of at most `most_bytes`, each within `limit_s` seconds, of which `most` may be on their way.

    JSON takes `most_json_bytes` of them at most: others wait while it is read.

    When there are more, the oldest that is PATIENCE_S old gives way, so that slow senders keep nobody else out.
    """

    def __init__(self, most_bytes: int, limit_s: float, most: int, most_json_bytes: int | None = None) -> None:
        self._most_bytes = most_bytes
        self._most_json_bytes = most_bytes if most_json_bytes is None else min(most_bytes, most_json_bytes)
        self._limit_s = limit_s
        self._most = most
        self._unfinished: dict[asyncio.Timeout, float] = {}

    async def read(self, receive: Receive, headers: Mapping[str, str], *, is_read_here: bool = True) -> bytes:
        """Return a body. Raises InvalidInput, TooLarge, and SlowRequest for one that is not there in time.

        JSON that is not read in this process may be as large as anything else.
        """
        if headers.get("content-encoding", "identity") != "identity":
            raise InvalidInput(f"header content-encoding: expected none, got {headers['content-encoding'][:64]!r}")
        json_bytes = whole_number(headers, JSON_BYTES)
        most_bytes = self._most_json_bytes if json_bytes is None and is_read_here else self._most_bytes
        if (json_bytes or 0) > self._most_json_bytes or (whole_number(headers, "content-length") or 0) > most_bytes:
            if "expect" not in headers:
                await self._discard(receive)
            raise self._too_large(most_bytes)
        message = await receive()
        first: bytes = message.get("body", b"")
        if not message.get("more_body") and len(first) <= most_bytes:
            return first
        return await self._read_on(receive, first, most_bytes)

    async def _read_on(self, receive: Receive, first: bytes, most_bytes: int) -> bytes:
        clock = asyncio.get_running_loop().time
        parts, size, more = [first], len(first), True
        limit = asyncio.timeout(self._limit_s)
        try:
            async with limit:
                self._make_room(clock())
                self._unfinished[limit] = clock()
                while more and size <= most_bytes:
                    message = await receive()
                    more = message.get("more_body", False)
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
        except TimeoutError as error:
            raise SlowRequest(f"the request did not arrive whole: {size} bytes of its body did") from error
        finally:
            self._unfinished.pop(limit, None)
        if size > most_bytes:
            parts.clear()
            if more:
                await self._discard(receive)
            raise self._too_large(most_bytes)
        return b"".join(parts)

    def _make_room(self, now: float) -> None:
        if len(self._unfinished) >= self._most:
            oldest, began = next(iter(self._unfinished.items()))
            if now - began < PATIENCE_S:
                raise SlowRequest(f"{self._most} requests are on their way already")
            del self._unfinished[oldest]
            if not oldest.expired():  # else it is on its way out already
                oldest.reschedule(now)

    async def _discard(self, receive: Receive) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_S):
                while (await receive()).get("more_body"):
                    pass

    def _too_large(self, most_bytes: int) -> TooLarge:
        told = f"expected a body of at most {most_bytes} bytes, got more"
        if self._most_json_bytes == self._most_bytes:
            return TooLarge(told)
        return TooLarge(f"{told}; JSON may have {self._most_json_bytes} bytes, more comes as binary data behind it")
