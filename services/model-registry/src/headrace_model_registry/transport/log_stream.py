"""The log's bytes as a stream of answers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from headrace.registry.v1 import proof_pb2

ANSWER_BYTES = 256 * 1024
"""About how much an answer has: an entry more than it takes, which has a megabyte at most."""

Lines = Iterator[tuple[int, bytes]]


async def chunks(lines: Callable[[], Generator[tuple[int, bytes]]]) -> AsyncGenerator[proof_pb2.ReadLogResponse]:
    """Yield the log in answers; it is read in a thread, which ends when nobody asks for more."""
    read, loop = lines(), asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "log stream")
    try:
        while taken := await loop.run_in_executor(thread, _some, read):
            yield proof_pb2.ReadLogResponse(lines=taken)
    finally:
        # Behind what may be under way: a generator cannot be closed while it runs.
        thread.submit(read.close)
        thread.shutdown(wait=False)


def _some(lines: Lines) -> list[proof_pb2.LogLine]:
    """Return the next entries; none at the end."""
    taken: list[proof_pb2.LogLine] = []
    size = 0
    for offset, value in lines:
        taken.append(proof_pb2.LogLine(offset=offset, value=value))
        size += len(value)
        if size >= ANSWER_BYTES:
            break
    return taken
