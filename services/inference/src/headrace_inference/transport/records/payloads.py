"""What records refer to: fetched here for the process that reads them, which has no key of the object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from headrace_runtime.errors import InvalidInput, TooLarge, Unavailable

MOST_BYTES: Final = 32 * 1024 * 1024
"""Bytes of the largest value that a record may refer to, and of the values of all records in one call."""

Beginning = Callable[[str, int], bytes]
"""Returns the first bytes of a file of the store by its name, none where there is no such file. Raises Unavailable."""


class PayloadDesk:
    """Fetches what the records of one call after the other refer to. Used in one event loop.

    They take turns until they are read, so that no more than those of one are held in memory.
    """

    def __init__(self, beginning: Beginning) -> None:
        self._beginning = beginning
        self._turn = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="payloads")

    def close(self) -> None:
        """Begin to fetch nothing more, and wait for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def fetched(
        self, names: Sequence[str], folders: Sequence[str], limit_s: float
    ) -> AsyncIterator[tuple[list[tuple[str, int]], bytes]]:
        """Yield the sizes of what lies in the store by these names, and their bytes one behind the other.

        `names` has one for each record: what several refer to is fetched once, and counts as often as it is read.
        Raises InvalidInput for a name outside of the folders below `payloads/` that the stream names, TooLarge for too
        much of all, and Unavailable where the store does not answer, or not within `limit_s` seconds.
        """
        within = tuple(f"payloads/{folder}/" for folder in folders)
        for name in names:
            if not name.startswith(within):
                raise InvalidInput(f"expected a name within {', '.join(within)}, got {name[:200]!r}")
        try:
            async with asyncio.timeout(limit_s):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Unavailable("what other records refer to is still being read; ask again") from error
        try:
            yield await self._all(names, limit_s)
        finally:
            self._turn.release()

    async def _all(self, names: Sequence[str], limit_s: float) -> tuple[list[tuple[str, int]], bytes]:
        loop, found = asyncio.get_running_loop(), bytearray()
        sizes: dict[str, int] = {}
        total = 0
        try:
            async with asyncio.timeout(limit_s):
                for name in names:
                    if name not in sizes:
                        data = await loop.run_in_executor(self._pool, self._beginning, name, MOST_BYTES + 1)
                        sizes[name] = len(data)
                        found += data
                    total += sizes[name]
                    if total > MOST_BYTES and len(names) > 1:
                        raise TooLarge(f"records: expected to refer to at most {MOST_BYTES} bytes in a call, got more")
        except TimeoutError as error:
            raise Unavailable(f"the object store did not answer within {limit_s:.3g} s") from error
        return list(sizes.items()), bytes(found)
