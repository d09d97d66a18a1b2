"""The way of other threads to those who answer records, in the event loop of calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from threading import Event
from typing import Any, Final, TypeVar

from headrace_runtime.errors import NotFound, Unavailable

from headrace_inference.transport.records.desk import RecordDesk

LOOK_S: Final = 0.5
"""How often who waits here looks whether to stop."""
LIMIT_S: Final = 120.0
"""What one work may take, before it is given up: a loop that stands still for longer is ended with its process."""
FIRST_RELEASE: Final = "the first release"
"""Subject of a wait that is no trouble of anybody: what is trained for the first time takes its time."""
_CLOSED: Final = "waiting for this replica to answer calls"
T = TypeVar("T")


class Door:
    """Lets other threads ask the desk once it is open. Safe for use by several threads."""

    def __init__(self) -> None:
        self._desk: RecordDesk | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def opened(self, desk: RecordDesk) -> AsyncIterator[None]:
        """Let them in, to a desk of this event loop."""
        self._desk, self._loop = desk, asyncio.get_running_loop()
        try:
            yield
        finally:
            self._desk = self._loop = None

    def closed_for(self, model: str) -> tuple[str, str] | None:
        """Return why records for a model cannot be answered yet, and what that is about; None where they can be."""
        if (desk := self._desk) is None:
            return _CLOSED, ""
        try:
            desk.most_rows(model)
        except NotFound:
            return f"waiting for the first release of model {model!r}: its records are read from then on", FIRST_RELEASE
        except Unavailable as error:
            return str(error), ""
        return None

    def answer(self, work: Callable[[RecordDesk], Coroutine[Any, Any, T]], stopping: Event) -> T:
        """Return what a work finds at the desk, in the trace of this thread.

        Raises what it raises, and Unavailable when it is to stop, or takes too long.
        """
        desk, loop = self._desk, self._loop
        if desk is None or loop is None:
            raise Unavailable(_CLOSED)
        asked = asyncio.run_coroutine_threadsafe(work(desk), loop)
        ends_s = time.monotonic() + LIMIT_S
        while not _is_done(asked):
            if stopping.is_set() or time.monotonic() > ends_s:
                asked.cancel()
                why = "this replica stops" if stopping.is_set() else f"not within {LIMIT_S:.0f} s, and fewer are tried"
                raise Unavailable(f"records were not answered, and are read again: {why}")
        return asked.result()


def _is_done(asked: Future[Any]) -> bool:
    try:
        asked.exception(LOOK_S)
    except TimeoutError:
        return asked.done()
    return True
