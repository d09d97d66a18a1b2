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
    """Health by name. Used in one event loop only.

    Unlike in the servicer of grpcio-health-checking, the streams of watchers end at `close`: they never hold up a stop.
    """

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._changed = asyncio.Event()
        self._draining = False
        self._closed = False

    def set(self, name: str, serving: bool | None) -> None:
        """Change the health of a name, or forget the name (None). Nothing changes after `drain`."""
        if self._draining:
            return
        if serving is None:
            self._serving.pop(name, None)
        else:
            self._serving[name] = serving
        self._wake_watchers()

    def drain(self) -> None:
        """Report every name as not serving from now on; watchers go on watching."""
        self._serving = dict.fromkeys(self._serving, False)
        self._draining = True
        self._wake_watchers()

    def close(self) -> None:
        """Report every name as not serving and end the watchers' streams."""
        self.drain()
        self._closed = True
        self._wake_watchers()

    async def Check(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Answer with the health of one name. Raises NotFound for an unknown one."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            raise NotFound(f"health of {request.service!r} is not known; known names: {sorted(self._serving)}")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Answer with the health of every name."""
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in self._serving}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the protocol's name
        """Answer with the health of one name, now and after every change."""
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
