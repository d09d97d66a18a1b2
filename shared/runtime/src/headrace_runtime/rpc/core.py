"""gRPC's core, served by one thread that goes on with every event itself.

grpc.aio hands each event of a call from a thread of its own to the event loop, through a lock and a socket: four times
a call, which is more than half of what a small one costs. Here the thread that waits at the core's completion queue
calls what the event is for. `grpc.server` of the same package is built on the same objects, and does the same until it
gives the call to a pool of threads.

The objects are private to grpcio, which is therefore pinned to a minor version.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from headrace_runtime.errors import Unavailable
from headrace_runtime.rpc.call import Call

logger = logging.getLogger(__name__)

AWAITED = 16
"""Calls that the core may hand out before the thread asks for more."""
WAITING = 10_000
"""Calls that may wait in the core, 15 kB each, until the thread asks for them. Of more it cancels some, and all beyond
twice as many; callers do not repeat what was cancelled. Left alone it begins at 1000, in a burst of good calls."""

Option = tuple[str, int | str]

# grpcio logs metadata that is no text as an error with its traceback, and goes on: any caller could fill the log.
logging.getLogger(cygrpc.__name__).addFilter(lambda record: record.msg != "Invalid encoding on %s")


class Core:
    """A server whose calls are told to `arrived`, in the thread that this starts. May not be used in a forked child."""

    def __init__(self, options: Sequence[Option], arrived: Callable[[Call], None]) -> None:
        self._arrived = arrived
        self._queue = cygrpc.CompletionQueue()
        waiting = (
            ("grpc.server.max_pending_requests", WAITING),
            ("grpc.server.max_pending_requests_hard_limit", 2 * WAITING),
        )
        self._server = cygrpc.Server((*options, *waiting), False)
        self._server.register_completion_queue(self._queue)
        self._awaited = 0
        self._asking = threading.Lock()
        """Held while calls are asked for: a server that is being shut down must not be asked."""
        self._stopping = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="grpc calls", daemon=True)

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
        for _ in range(AWAITED):
            self._await_call()
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
        self._server.destroy()

    def discard(self) -> None:
        """Let go of the port of a server that was never started: the core frees only those that were."""
        self.start()
        self.stop(0.0)

    def _await_call(self) -> None:
        with self._asking:
            if not self._stopping:
                self._server.request_call(self._queue, self._queue, self._requested)
                self._awaited += 1

    def _requested(self, event: Any) -> None:
        self._awaited -= 1
        if not event.success:
            return  # the server stops
        self._await_call()
        self._arrived(Call(event))

    def _down(self, _event: Any) -> None:
        self._ended.set()

    def _serve(self) -> None:
        while not self._ended.is_set() or self._awaited:
            event = self._queue.poll(None)
            try:
                event.tag(event)
            except BaseException:
                # Whatever it is: without this thread no call would be answered any more.
                logger.exception("an event of a call was not handled")
            # An event holds its call, and the server's stop waits for every call.
            del event
