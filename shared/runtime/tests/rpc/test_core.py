"""gRPC's core by itself: calls that wait for its thread, and a stop between two of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from headrace_runtime.rpc.call import Call
from headrace_runtime.rpc.core import Core

BURST = 4_000
"""More calls than the core lets wait when it is left alone."""


def answer(call: Call) -> None:
    call.receive(lambda message: call.end() if message is None else call.answer(message))


class Gate:
    """Holds the thread in which calls arrive until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, call: Call) -> None:
        self.opened.wait(60)
        answer(call)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def test_a_burst_of_calls_waits_for_its_turn(gate: Gate) -> None:
    core = Core([], gate)
    port = core.bind("127.0.0.1:0", None)
    core.start()
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{port}")
    with dial as channel:
        ask = channel.unary_unary("/test.Burst/Ask")
        waiting = [ask.future(b"", timeout=60) for _ in range(BURST)]
        # The core refuses this one by itself, and by then has read all that came before on the connection.
        refused = ask.future(b"", timeout=60, metadata=(("large", "x" * 20_000),))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.opened.set()
        assert {each.code() for each in waiting} == {grpc.StatusCode.OK}
    core.stop(10.0)


class WatchedLock:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self, waited_for: threading.Event) -> None:
        self._lock = threading.Lock()
        self._waited_for = waited_for

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._waited_for.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class StoppedBetween:
    """The core's server, which is stopped just when the next call is asked for: as late as that can be noticed."""

    def __init__(self, core: Core) -> None:
        self._core, self._server = core, core._server
        self._went_on = threading.Event()
        """The stop goes on, or waits for its turn."""
        self.stopping = threading.Thread(target=core.stop, args=(10.0,))
        core._asking = WatchedLock(self._went_on)  # type: ignore[assignment]
        core._server = self

    def request_call(self, *arguments: Any) -> Any:
        if self.stopping.ident is None:
            self.stopping.start()
            assert self._went_on.wait(30)
        return self._server.request_call(*arguments)

    def shutdown(self, *arguments: Any) -> None:
        self._server.shutdown(*arguments)
        self._went_on.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def test_a_stop_waits_until_the_next_call_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    core = Core([], answer)
    port = core.bind("127.0.0.1:0", None)
    core.start()
    stopped = StoppedBetween(core)
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{port}")
    with caplog.at_level(logging.WARNING), dial as channel:
        assert channel.unary_unary("/test.Last/Ask")(b"in time", timeout=30) == b"in time"
        stopped.stopping.join(30)
    assert not stopped.stopping.is_alive()
    assert caplog.records == []
