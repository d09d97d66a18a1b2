"""The log's bytes as a stream of answers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from headrace.registry.v1 import proof_pb2

LINES = 200
"""Entries in an answer at most: they have some KB each, and few have much more."""


async def chunks(lines: Callable[[], Generator[tuple[int, bytes]]]) -> AsyncGenerator[proof_pb2.ReadLogResponse]:
    """Yield the log in answers; it is read in a thread, which ends when nobody asks for more."""
    read, loop = lines(), asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "log stream")
    try:
        while taken := await loop.run_in_executor(thread, lambda: list(islice(read, LINES))):
            yield proof_pb2.ReadLogResponse(lines=[proof_pb2.LogLine(offset=at, value=data) for at, data in taken])
    finally:
        # Behind what may be under way: a generator cannot be closed while it runs.
        thread.submit(read.close)
        thread.shutdown(wait=False)
