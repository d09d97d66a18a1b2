"""gRPC's core, served by one thread that goes on with every event itself.

grpc.aio hands each event of a call from a thread of its own to the event loop, through a lock and a socket: four times
a call, which is more than half of what a small one costs. Here the thread that waits at the core's completion queue
calls what the event is for. `grpc.server` of the same package is built on the same objects, and does the same until it
gives the call to a pool of threads.

The objects are private to grpcio, which is therefore pinned to a minor version.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from headrace_runtime.errors import Unavailable
from headrace_runtime.rpc.call import Call

logger = logging.getLogger(__name__)

WAITING, MOST_WAITING = 128, 256
"""Calls that may wait in the core because the thread asks for no more. Of those beyond the first number it cancels
some, and all beyond the second: callers do not repeat what was cancelled, but it costs the server next to nothing. What
waits here grows old unseen, so it is little; bursts wait in the line."""

Option = tuple[str, int | str]

# grpcio logs metadata that is no text as an error with its traceback, and goes on: any caller could fill the log.
logging.getLogger(cygrpc.__name__).addFilter(lambda record: record.msg != "Invalid encoding on %s")


class Waiting(Protocol):
    """Calls that have arrived, and wait for their turn in the thread of `Core`."""

    @property
    def room(self) -> int:
        """Calls that the core may hand out before it is asked for more."""

    @property
    def due_s(self) -> float | None:
        """Time of the next turn, in seconds of `time.monotonic`; None when no call waits."""

    def arrived(self, call: Call) -> None:
        """Take a call."""

    def turn(self) -> None:
        """Go on with the call whose turn it is."""


class Core:
    """A server whose calls join `line`, in the thread that this starts. May not be used in a forked child.

    Calls are taken as they come, before any that waits is answered: only a call that was seen can be judged.
    """

    def __init__(self, options: Sequence[Option], line: Waiting) -> None:
        self._line = line
        self._queue = cygrpc.CompletionQueue()
        waiting = (
            ("grpc.server.max_pending_requests", WAITING),
            ("grpc.server.max_pending_requests_hard_limit", MOST_WAITING),
            ("grpc.enable_channelz", 1),
        )
        with _counting:
            before = _servers()
            self._server = cygrpc.Server((*options, *waiting), False)
            (self._number,) = _servers() - before
        self._server.register_completion_queue(self._queue)
        self._awaited = 0
        self._taken = 0
        self._asking = threading.Lock()
        """Held while calls are asked for: a server that is being shut down must not be asked."""
        self._stopping = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="grpc calls", daemon=True)
        _cores.add(self)

    def bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Listen on host:port; port 0 takes a free one. Returns the port; raises Unavailable when it cannot be had."""
        try:
            if credentials is None:
                port = self._server.add_http2_port(address.encode())
            else:
                port = self._server.add_http2_port(address.encode(), credentials._credentials)  # type: ignore[attr-defined]  # noqa: SLF001
        except RuntimeError as error:
            raise Unavailable(f"gRPC cannot listen on {address}: {error}") from error
        if not port:
            raise Unavailable(f"gRPC cannot listen on {address}: the address is taken or not ours")
        return int(port)

    def start(self) -> None:
        """Take calls."""
        self._server.start()
        self._await_calls()
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Take no more calls, give those in flight so many seconds, and cancel what is left then."""
        with self._asking:
            self._stopping = True
            running = self._thread.is_alive()
            if running:
                self._server.shutdown(self._queue, self._down)
        if running:
            if not self._ended.wait(grace_s):
                self._server.cancel_all_calls()
                self._ended.wait()
            self._thread.join()
        _cores.discard(self)
        self._server.destroy()

    def discard(self) -> None:
        """Let go of the port of a server that was never started: the core frees only those that were."""
        self.start()
        self.stop(0.0)

    def cancelled(self) -> int:
        """Return how many calls the core has ended by itself: too many waited, or their headers were refused.

        Calls that wait in the core are among them, while the thread asks for none.
        """
        told = json.loads(cygrpc.channelz_get_server(self._number))["server"]["data"]
        return max(0, int(told.get("callsStarted", 0)) - self._taken)

    def _await_calls(self) -> None:
        with self._asking:
            while not self._stopping and self._awaited < self._line.room:
                self._server.request_call(self._queue, self._queue, self._requested)
                self._awaited += 1

    def _requested(self, event: Any) -> None:
        self._awaited -= 1
        if not event.success:
            return  # the server stops
        self._taken += 1
        self._line.arrived(Call(event))
        self._await_calls()

    def _down(self, _event: Any) -> None:
        self._ended.set()

    def _serve(self) -> None:
        while not self._ended.is_set() or self._awaited:
            due_s = self._line.due_s
            # The core's clock is that of `time.time`; 0 is long ago.
            event = self._queue.poll(due_s and time.time() + due_s - time.monotonic())
            try:
                if event.completion_type == _NOTHING:
                    self._line.turn()
                    self._await_calls()
                else:
                    event.tag(event)
            except BaseException:
                # Whatever it is: without this thread no call would be answered any more.
                logger.exception("an event of a call was not handled")
            # An event holds its call, and the server's stop waits for every call.
            del event


_NOTHING = cygrpc.CompletionType.queue_timeout
_cores: weakref.WeakSet[Core] = weakref.WeakSet()
_counting = threading.Lock()


def _servers() -> set[int]:
    """Return the numbers of the process's servers in the core."""
    told = json.loads(cygrpc.channelz_get_servers(0))
    return {int(server["ref"]["serverId"]) for server in told.get("server", ())}


class _Cancelled(Collector):
    """Counts what the core cancels, when the metrics are read."""

    def __init__(self) -> None:
        self._most = 0

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the one metric."""
        self._most = max(self._most, sum(core.cancelled() for core in list(_cores)))
        text = "Calls that gRPC's core ended by itself: too many waited, or their headers were refused."
        yield CounterMetricFamily("headrace_rpc_server_calls_cancelled", text, self._most)


REGISTRY.register(_Cancelled())
