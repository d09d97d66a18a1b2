"""A server on gRPC's core: one thread takes every event from the completion queue and handles it itself.

grpc.aio passes each event of a call from a thread of its own to the event loop, through a lock and a socket. That
happens four times per call, and is more than half of the cost of a small call. Here the thread that waits at the core's
completion queue calls the event's function directly. `grpc.server` of the same package uses the same objects in the
same way, until it passes the call to a thread pool.

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
"""Limits of the calls that wait in the core while the thread requests none. The core cancels some calls beyond the
first limit, and all calls beyond the second. Callers do not retry cancelled calls, but a cancellation costs the server
next to nothing. Calls age unseen in the core, so the limits are small. Bursts wait in the line."""

Option = tuple[str, int | str]

# grpcio logs undecodable metadata as an error with a traceback, and goes on. Any caller could fill the log that way.
logging.getLogger(cygrpc.__name__).addFilter(lambda record: record.msg != "Invalid encoding on %s")


class Waiting(Protocol):
    """A queue of arrived calls, which wait for their turn in the thread of `Core`."""

    @property
    def room(self) -> int:
        """Number of calls that the core may hand out without a further request."""

    @property
    def due_s(self) -> float | None:
        """Time of the next turn, in seconds of `time.monotonic`; None when no call waits."""

    def arrived(self, call: Call) -> None:
        """Accept a newly arrived call."""

    def turn(self) -> None:
        """Process the next waiting call."""


class Core:
    """A gRPC server that passes its calls to `line`, in a thread of its own. Not for use in a forked child.

    New calls are taken before waiting calls are answered, because admission can judge only calls that were taken.
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
        """Held while calls are requested, because a server in shutdown must get no such request."""
        self._stopping = False
        self._ended, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, name="grpc calls", daemon=True)
        _cores.add(self)

    def bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Listen on host:port and return the port. Port 0 takes a free one. Raises Unavailable when binding fails."""
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
        """Start to take calls."""
        self._server.start()
        self._await_calls()
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Take no more calls, drain those in flight for `grace_s` seconds, and cancel the rest.

        The last events of calls may still be under way: the core ends with its connections, not with their operations.
        They are handled until `close`.
        """
        with self._asking:
            self._stopping = True
            running = self._thread.is_alive()
            if running:
                self._server.shutdown(self._queue, self._down)
        if running and not self._ended.wait(grace_s):
            self._server.cancel_all_calls()
            self._ended.wait()
        _cores.discard(self)

    def close(self) -> None:
        """Take every event that is under way, and end the thread, after `stop`. No operation may be started any more.

        What is taken now is not handled: who waited for it has ended, and a handler could start an operation, at which
        the core would end the process. Blocks until each operation that was started has ended.
        """
        self._closed.set()
        self._queue.shutdown()
        if self._thread.ident is not None:
            self._thread.join()
        self._server.destroy()

    def discard(self) -> None:
        """Release the port of a server that was never started. The core frees only ports of started servers."""
        self.start()
        self.stop(0.0)
        self.close()

    def cancelled(self) -> int:
        """Return the number of calls that the core ended by itself: too many waited, or their headers were refused.

        Calls that still wait in the core are included while the thread requests none.
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
            return  # the server is stopping
        self._taken += 1
        self._line.arrived(Call(event))
        self._await_calls()

    def _down(self, _event: Any) -> None:
        self._ended.set()

    def _serve(self) -> None:
        while True:
            due_s = None if self._ended.is_set() else self._line.due_s
            # The core uses the clock of `time.time`. A due time of 0 lies in the past.
            event = self._queue.poll(due_s and time.time() + due_s - time.monotonic())
            if event.completion_type == _CLOSED:
                return
            try:
                if event.completion_type == _NOTHING:
                    self._line.turn()
                    self._await_calls()
                elif not self._closed.is_set():
                    event.tag(event)
            except BaseException:
                # The thread must survive any error, because without it no call would be answered.
                logger.exception("an event of a call was not handled")
            # An event holds a reference to its call, and the stop of the server waits for every call.
            del event


_NOTHING, _CLOSED = cygrpc.CompletionType.queue_timeout, cygrpc.CompletionType.queue_shutdown
_cores: weakref.WeakSet[Core] = weakref.WeakSet()
_counting = threading.Lock()


def _servers() -> set[int]:
    """Return the core's numbers of the servers in this process."""
    told = json.loads(cygrpc.channelz_get_servers(0))
    return {int(server["ref"]["serverId"]) for server in told.get("server", ())}


class _Cancelled(Collector):
    """The metric of calls that the core cancelled, counted when the metrics are read."""

    def __init__(self) -> None:
        self._most = 0

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counter."""
        self._most = max(self._most, sum(core.cancelled() for core in list(_cores)))
        text = "Calls that gRPC's core ended by itself: too many waited, or their headers were refused."
        yield CounterMetricFamily("headrace_rpc_server_calls_cancelled", text, self._most)


REGISTRY.register(_Cancelled())
