"""A gRPC server as a part of a service: its own thread and event loop, health, reflection, errors and telemetry."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2_grpc  # type: ignore[import-untyped]

from headrace_runtime.process.memory import give_back
from headrace_runtime.process.service import Background
from headrace_runtime.rpc.core import Core, Option
from headrace_runtime.rpc.errors import ErrorInterceptor
from headrace_runtime.rpc.health import HealthServicer
from headrace_runtime.rpc.leaving import AGE_JITTER, quiet, stop_listening
from headrace_runtime.rpc.line import Line
from headrace_runtime.rpc.methods import Methods
from headrace_runtime.rpc.reflect import reflection_handlers
from headrace_runtime.rpc.tasks import Tasks
from headrace_runtime.rpc.telemetry import TelemetryInterceptor
from headrace_runtime.rpc.tls import server_credentials
from headrace_runtime.tls_files import Listening

try:
    from uvloop import new_event_loop
except ImportError:  # uvloop does not support Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

MEBIBYTE = 1024 * 1024
DEFAULT_MAX_MESSAGE_BYTES = 4 * MEBIBYTE
MAX_ANSWER_BYTES = 64 * MEBIBYTE
"""Largest answer in bytes. A caller cannot choose it as freely as a request."""
MAX_HEALTH_BYTES = 4096
"""Largest request in bytes at an address that answers health alone."""
PING_S = 60.0
"""Seconds between keepalive pings on a quiet connection. A caller whose machine or network has failed sends nothing.
Without pings, gRPC's core would keep its calls and watches for two hours, the documented default."""
PING_ANSWER_S = 60.0
"""Time-out of the answer to a keepalive ping, in seconds."""
GIVE_BACK_S = 5.0
"""Seconds between returns of memory to the system. They happen while calls are refused, and once afterwards."""
LIVE = "live"
"""The health name for liveness probes, which restart a process. It is serving as long as the server answers, also while
its services wait. The name "" is for readiness probes, which take a process out of load balancing."""

Register = Callable[[Any], None]
"""Adds a servicer to a server: `partial(add_XServicer_to_server, servicer)`."""

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes resources bound to the server's event loop. Entered before the server listens, left after the last call."""


class GrpcHost(Background):
    """Serves methods on the address `listening` (host:port) until it is stopped. Port 0 takes a free port (see `port`).

    `handlers` are functions that register a servicer, or generic handlers. Methods are coroutines or asynchronous
    generators, and raise errors of headrace_runtime.errors. `service_names` are full names, for health and reflection.
    Reflection looks them up in `descriptor_pool` first, for names outside the default pool. A call with a request
    larger than `max_message_bytes` ends with RESOURCE_EXHAUSTED.

    `stop` drains the server. Health turns to not serving. Calls are still taken for `drain_s` seconds, so that callers
    and load balancers can move on. If connections have a greatest age, the server then accepts no new connections, and
    answers calls until the callers are gone or that age has passed. Finally no call is taken, and calls in flight have
    `grace_s` seconds to end.
    """

    def __init__(
        self,
        listening: str | Listening,
        handlers: Sequence[Register | grpc.GenericRpcHandler],
        service_names: Sequence[str],
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        descriptor_pool: DescriptorPool | None = None,
        *,
        lifespan: Lifespan = nullcontext,
        drain_s: float = 0.0,
        grace_s: float = 10.0,
    ) -> None:
        self._at = Listening(listening) if isinstance(listening, str) else listening
        super().__init__(name=f"grpc {self._at.address}")
        self._handlers = tuple(handlers)
        self._service_names = tuple(service_names)
        self._max_message_bytes = max_message_bytes
        self._descriptor_pool = descriptor_pool
        self._lifespan = lifespan
        self._drain_s = drain_s
        self._grace_s = grace_s
        self._age_s = self._at.max_connection_age_s
        self.stop_timeout_s += drain_s + self._age_s * AGE_JITTER + grace_s
        self._lines: list[Line] = []
        self._telemetry = TelemetryInterceptor()
        self._health = HealthServicer()
        self._stop_asked = asyncio.Event()
        self._listening: Future[tuple[int, int | None]] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()
        self.set_serving(True)
        self.set_serving(True, LIVE)

    @property
    def port(self) -> int:
        """The port that the server listens on. Known once the server has started."""
        return self._listening.result(timeout=0)[0]

    @property
    def health_port(self) -> int | None:
        """The port for health alone; None without one. Known once the server has started."""
        return self._listening.result(timeout=0)[1]

    def start(self) -> None:
        """Start to listen. Raises Unavailable when the address cannot be bound."""
        super().start()
        self._listening.result()

    def stop(self) -> None:
        """Drain the server, take no more calls, wait for those in flight, and end the thread."""
        self.stopping.set()
        self._in_loop(self._stop_asked.set)
        super().stop()

    def strain(self, left_s: float | None) -> float:
        """Return how near a call is to being refused in a line, from 1 on. From any thread.

        `left_s` is the time until its caller stops waiting, in seconds; None without a limit.
        """
        return max((line.strain(left_s) for line in self._lines), default=0.0)

    def set_serving(self, serving: bool | None, name: str = "") -> None:
        """Set the health of a name; None removes it. Thread-safe. The name "" means the server and all its services."""
        for each in (name,) if name else ("", *self._service_names):
            self._in_loop(partial(self._health.set, each, serving))

    def run(self) -> None:
        """Serve until `stop`, in the host's own thread."""
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._listening.done():
                raise
            self._listening.set_exception(error)

    async def _serve(self) -> None:
        with self._loop_lock:
            self._loop = asyncio.get_running_loop()
        try:
            async with self._lifespan():
                tasks = Tasks(self._at.limits.streams)
                servers, ports = self._listen(tasks)
                self._listening.set_result(ports)
                giving_back = asyncio.create_task(self._give_memory_back(tasks))
                await self._stop_asked.wait()
                giving_back.cancel()
                await self._let_callers_go(ports[0])
                await asyncio.gather(*(asyncio.to_thread(each.stop, self._grace_s) for each in servers))
                await tasks.ended()
                await asyncio.gather(*(asyncio.to_thread(each.close) for each in servers))
        finally:
            with self._loop_lock:
                self._loop = None

    async def _give_memory_back(self, tasks: Tasks) -> None:
        """Return free memory to the system, some seconds after overload or hostile callers made the process grow."""
        while True:
            await asyncio.sleep(GIVE_BACK_S)
            parts: tuple[Line | Tasks, ...] = (*self._lines, tasks)
            pressed = [each for each in parts if each.pressed]
            for each in pressed:
                each.pressed = False
            if pressed:
                await asyncio.to_thread(give_back)

    def _listen(self, tasks: Tasks) -> tuple[list[Core], tuple[int, int | None]]:
        """Start to take calls. Return the servers and their ports. When one of them cannot listen, none does."""
        with ExitStack() as unstarted:
            server, health_server = (
                self._make_core(tasks, self._all_handlers(), self._max_message_bytes),
                self._make_health_core(tasks),
            )
            servers = [each for each in (server, health_server) if each is not None]
            for each in servers:
                unstarted.callback(each.discard)
            port = server.bind(self._at.address, None if self._at.tls is None else server_credentials(self._at.tls))
            health_port = None if health_server is None else health_server.bind(self._at.health_address, None)
            unstarted.pop_all()
        for each in servers:
            each.start()
        return servers, (port, health_port)

    async def _let_callers_go(self, port: int) -> None:
        self._health.drain()
        await asyncio.sleep(self._drain_s)
        # Not earlier: load balancers open new connections until they have seen the drain.
        if self._drain_s and self._age_s and stop_listening(port):
            await quiet(lambda: self._telemetry.calls, self._age_s * AGE_JITTER)
        self._health.close()

    def _make_health_core(self, tasks: Tasks) -> Core | None:
        if not self._at.health_address:
            return None
        registered = _Registered()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registered)
        return self._make_core(tasks, registered.handlers, MAX_HEALTH_BYTES)

    def _make_core(self, tasks: Tasks, handlers: Sequence[grpc.GenericRpcHandler], most_bytes: int) -> Core:
        limits = self._at.limits
        options: list[Option] = [
            ("grpc.so_reuseport", 0),  # else a second server on the port silently takes half of the calls
            ("grpc.max_receive_message_length", most_bytes),
            ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
            ("grpc.max_allowed_incoming_connections", limits.connections),
            ("grpc.max_concurrent_streams", limits.calls_per_connection),
            ("grpc.server_handshake_timeout_ms", round(limits.handshake_s * 1e3)),
            ("grpc.http2.min_ping_interval_without_data_ms", round(self._at.least_ping_interval_s * 1e3)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", round(PING_S * 1e3)),
            ("grpc.http2.ping_timeout_ms", round(PING_ANSWER_S * 1e3)),
        ]
        if self._age_s:
            # There is no limit for calls that outlast the age of their connection. Streams such as those of health
            # watchers stay on the old connection.
            options.append(("grpc.max_connection_age_ms", round(self._age_s * 1e3)))
        methods = Methods(handlers, (self._telemetry, ErrorInterceptor()))
        line = Line(methods, tasks, limits.unfinished)
        self._lines.append(line)
        return Core(options, line)

    def _all_handlers(self) -> list[grpc.GenericRpcHandler]:
        registered = _Registered()
        for handler in self._handlers:
            if isinstance(handler, grpc.GenericRpcHandler):
                registered.add_generic_rpc_handlers((handler,))
            else:
                handler(registered)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registered)
        registered.add_generic_rpc_handlers(reflection_handlers(self._service_names, self._descriptor_pool))
        return registered.handlers

    def _in_loop(self, change: Callable[[], object]) -> None:
        with self._loop_lock:
            if self._loop is None:
                change()
            else:
                self._loop.call_soon_threadsafe(change)


class _Registered:
    """A stand-in for a server: generated code registers a servicer with it, and it keeps the handlers."""

    def __init__(self) -> None:
        self.handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self.handlers += handlers

    def add_registered_method_handlers(self, _service: str, _handlers: object) -> None:
        """Do nothing, because the generic handlers already hold these methods."""
