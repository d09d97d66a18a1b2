"""gRPC's core by itself: a stop between two calls."""

from __future__ import annotations

import logging
import threading
from typing import Any

import grpc
import pytest
from headrace_runtime.rpc.call import Call
from headrace_runtime.rpc.core import Core


def answer(call: Call) -> None:
    call.receive(lambda message: call.end() if message is None else call.answer(message))


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
