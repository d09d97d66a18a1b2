"""The gRPC health protocol (grpc.health.v1): Check, List and Watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from headrace_runtime.errors import NotFound

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The health of a server, its services and its models, by name. Used in one event loop only.

    `close` ends the streams of Watch, so they never delay a stop. The servicer of grpcio-health-checking keeps them
    open.
    """

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._changed = asyncio.Event()
        self._draining = False
        self._closed = False

    def set(self, name: str, serving: bool | None) -> None:
        """Set the health of a name; None removes the name. Does nothing after `drain`."""
        if self._draining:
            return
        if serving is None:
            self._serving.pop(name, None)
        else:
            self._serving[name] = serving
        self._wake_watchers()

    def drain(self) -> None:
        """Report every name as NOT_SERVING from now on. Streams of Watch stay open."""
        self._serving = dict.fromkeys(self._serving, False)
        self._draining = True
        self._wake_watchers()

    def close(self) -> None:
        """Report every name as NOT_SERVING and end the streams of Watch."""
        self.drain()
        self._closed = True
        self._wake_watchers()

    async def Check(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Return the health of one name. Raises NotFound for an unknown name."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            raise NotFound(f"health of {request.service!r} is not known; known names: {sorted(self._serving)}")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Return the health of every name."""
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in self._serving}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the protocol's name
        """Stream the health of one name: its current status, then its status after each change."""
        last = None
        while True:
            # As it is now: while the answer is under way, it may change once more and be closed.
            status, changed, closed = self._status(request.service), self._changed, self._closed
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            if closed:
                return
            last = status
            await changed.wait()

    def _status(self, name: str) -> Any:
        if name not in self._serving:
            return _UNKNOWN
        return _SERVING if self._serving[name] else _NOT_SERVING

    def _wake_watchers(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
