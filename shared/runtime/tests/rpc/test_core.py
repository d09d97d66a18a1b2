"""gRPC's core by itself: calls that wait for its thread, and a stop between two of them."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from headrace_runtime.rpc.call import Call
from headrace_runtime.rpc.core import MOST_WAITING, Core
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.rpc.methods import WithInline
from prometheus_client import REGISTRY

CANCELLED = "headrace_rpc_server_calls_cancelled_total"

BURST = 10_000


class AtOnce:
    """A line in which nobody waits: each call echoes its message as it arrives."""

    room, due_s = 16, None

    def arrived(self, call: Call) -> None:
        call.receive(lambda message: call.end() if message is None else call.answer(message))

    def turn(self) -> None:
        raise AssertionError("nobody waits")


def echo(request: bytes, call: Call) -> bytes:
    return request


async def echo_later(request: bytes, call: Call) -> bytes:
    return request  # of a call whose trace is recorded


@pytest.fixture
def host() -> Iterator[GrpcHost]:
    method: Any = grpc.unary_unary_rpc_method_handler(echo_later)
    handler = grpc.method_handlers_generic_handler("test.Burst", {"Ask": method})
    host = GrpcHost("127.0.0.1:0", [WithInline(handler, {"/test.Burst/Ask": echo})], [])
    host.start()
    yield host
    host.stop()


@pytest.mark.slow
def test_a_burst_of_calls_waits_for_its_turn(host: GrpcHost) -> None:
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{host.port}")
    with dial as channel:
        ask = channel.unary_unary("/test.Burst/Ask")
        waiting = [ask.future(b"", timeout=120) for _ in range(BURST)]
        assert {each.code() for each in waiting} == {grpc.StatusCode.OK}


class Nowhere(AtOnce):
    """A line that takes one call, and then no more."""

    def __init__(self) -> None:
        self.room = 1

    def arrived(self, call: Call) -> None:
        self.room = 0
        super().arrived(call)


def test_calls_that_the_core_cancels_are_counted() -> None:
    line = Nowhere()
    core = Core([], line)
    port = core.bind("127.0.0.1:0", None)
    core.start()
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{port}")
    with dial as channel:
        ask = channel.unary_unary("/test.Burst/Ask")
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(2 * MOST_WAITING):
            ask.future(b"", timeout=60).add_done_callback(ended.put)
        while ended.get(timeout=60).code() is not grpc.StatusCode.CANCELLED:
            pass
        cancelled = core.cancelled()
        known = [sample for metric in REGISTRY.collect() for sample in metric.samples if sample.name == CANCELLED]
        assert known[0].value >= cancelled > 0
    core.stop(0.1)
    core.close()


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
    core = Core([], AtOnce())
    port = core.bind("127.0.0.1:0", None)
    core.start()
    stopped = StoppedBetween(core)
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{port}")
    with caplog.at_level(logging.WARNING), dial as channel:
        assert channel.unary_unary("/test.Last/Ask")(b"in time", timeout=30) == b"in time"
        stopped.stopping.join(30)
    assert not stopped.stopping.is_alive()
    assert caplog.records == []
    core.close()


def test_the_last_events_of_a_call_are_told_after_the_stop() -> None:
    arrived: queue.SimpleQueue[Call] = queue.SimpleQueue()
    line: Any = SimpleNamespace(room=16, due_s=None, arrived=arrived.put)
    core = Core([], line)
    port = core.bind("127.0.0.1:0", None)
    core.start()
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{port}")
    with dial as channel:
        answers = channel.unary_stream("/test.Gone/Watch")(b"", timeout=30)
        watching = arrived.get(timeout=10)
        told: queue.SimpleQueue[str] = queue.SimpleQueue()
        watching.watch(lambda: told.put("cancelled"))
    core.stop(10.0)
    assert answers.code() is grpc.StatusCode.CANCELLED
    assert told.get(timeout=10) == "cancelled"
    watching.send(b"too late", lambda: told.put("sent"))
    assert told.get(timeout=10) == "sent"
    watching.drop()
    core.close()


def test_what_comes_after_the_close_is_not_handled() -> None:
    """A handler may start an operation, at which gRPC's core ends the process."""
    arrived: queue.SimpleQueue[Call] = queue.SimpleQueue()
    line: Any = SimpleNamespace(room=16, due_s=None, arrived=arrived.put)
    core = Core([], line)
    port = core.bind("127.0.0.1:0", None)
    core.start()
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{port}")
    with dial as channel:
        answers = channel.unary_stream("/test.Gone/Watch")(b"", timeout=30)
        call = arrived.get(timeout=10)
    core.stop(10.0)
    busy, go_on = threading.Event(), threading.Event()
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def hold() -> None:
        busy.set()
        go_on.wait(30)

    call.send(b"too late", hold)
    assert busy.wait(10)
    call.send(b"later still", lambda: told.put("sent"))
    call.drop()
    closing = threading.Thread(target=core.close)
    closing.start()
    assert core._closed.wait(10)
    go_on.set()
    closing.join(30)
    assert not closing.is_alive()
    assert told.empty()
    assert answers.code() is not grpc.StatusCode.OK
