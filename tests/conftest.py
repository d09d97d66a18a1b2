"""Where a test that starts a platform itself keeps its state, and clients that call without a pause."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def platform_home(tmp_path: Path) -> Path:
    """A state folder for a platform that one test starts itself."""
    return tmp_path / "home"


@dataclass(frozen=True)
class Call:
    """One call of a closed loop; times are seconds of `time.perf_counter`."""

    started_s: float
    ended_s: float
    answer: Any
    """What the call returned, or the exception that it raised."""


class ClosedLoop:
    """One client for each core; each calls, and calls again as soon as it has the answer, until the stack is left.

    `make_caller` is called once for each client and returns the function that makes a call.
    """

    def __init__(self, stack: ExitStack, make_caller: Callable[[], Callable[[], Any]]) -> None:
        self._stopping = threading.Event()
        self._made: list[list[Call]] = [[] for _ in range(os.cpu_count() or 1)]
        threads = [threading.Thread(target=self._call, args=(make_caller(), made)) for made in self._made]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(self._stopping.set)

    def calls(self) -> list[Call]:
        """Return the calls that succeeded."""
        return [call for made in self._made for call in tuple(made) if not isinstance(call.answer, Exception)]

    def failed(self) -> list[Exception]:
        """Return what the other calls raised."""
        return [call.answer for made in self._made for call in tuple(made) if isinstance(call.answer, Exception)]

    def wait(self, seen: Callable[[Any], bool], timeout_s: float = 60.0) -> None:
        """Wait until the last answer of any client fits, or any call failed."""
        self.wait_until(
            lambda: any(
                made and (isinstance(made[-1].answer, Exception) or seen(made[-1].answer)) for made in self._made
            ),
            timeout_s,
        )

    def wait_calls(self, count: int, timeout_s: float = 120.0) -> None:
        """Wait until so many more calls were made."""
        wanted = sum(len(made) for made in self._made) + count
        self.wait_until(lambda: sum(len(made) for made in self._made) >= wanted, timeout_s)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
        """Wait until a condition holds while the clients call."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"it did not come true; failed calls: {self.failed()[:3]}"
            self._stopping.wait(0.02)

    def _call(self, call: Callable[[], Any], made: list[Call]) -> None:
        while not self._stopping.is_set():
            started_s = time.perf_counter()
            try:
                answer = call()
            except Exception as error:
                answer = error
            made.append(Call(started_s, time.perf_counter(), answer))


@pytest.fixture(scope="session")
def closed_loop() -> type[ClosedLoop]:
    """Clients that call without a pause: `closed_loop(stack, make_caller)`."""
    return ClosedLoop
