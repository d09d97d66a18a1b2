"""Streams of a pipeline's status: once now, and again whenever it changes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from headrace_runtime.errors import Unavailable

from headrace_model_registry.core.state import State

T = TypeVar("T")

SHORTEST_PAUSE_S = 0.1
"""Pause between two messages of one stream: ten a second are as much as anybody can read."""


class Watchers:
    """Runs the streams; a component that is stopped before the server, because a stream has no end of its own."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._stopping = False

    def start(self) -> None:
        """Nothing to start: streams are asked for by callers."""

    def stop(self) -> None:
        """End every stream with Unavailable."""
        self._stopping = True
        self._state.wake()

    async def watch(self, look: Callable[[], T]) -> AsyncGenerator[T]:
        """Yield what `look` returns, now and whenever it returns something else. Never ends by itself."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._state.listen(wake)
        try:
            shown: T | None = None
            while not self._stopping:
                changed.clear()
                seen = look()
                if seen != shown:
                    shown = seen
                    yield seen
                    await asyncio.sleep(SHORTEST_PAUSE_S)
                await changed.wait()
            raise Unavailable("the registry is stopping")
        finally:
            self._state.forget(wake)
