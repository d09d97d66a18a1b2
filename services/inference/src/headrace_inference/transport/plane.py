"""The seam of inference: a method and its bytes in, bytes or a named error out.

Whatever carries the bytes, gRPC in Python or a native front, everything else lies behind `Plane.call`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed_version
from typing import Any

from headrace import open_inference as oip

from headrace_inference.core.shelf import Shelf
from headrace_inference.ports import CallContext
from headrace_inference.transport import converters
from headrace_inference.transport.predictor import Predictor

Method = Callable[[bytes, CallContext], Awaitable[bytes]]


class Plane:
    """Answers the methods of the Open Inference Protocol. Used in one event loop."""

    def __init__(self, shelf: Shelf, predictor: Predictor) -> None:
        self._shelf = shelf
        self._server = oip.ServerMetadataResponse(name="headrace", version=installed_version("headrace-inference"))
        self._methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": predictor.infer,
        }

    async def call(self, method: str, request: bytes, context: CallContext) -> bytes:
        """Return the serialised answer to a serialised request. Raises errors of headrace_runtime.errors."""
        return await self._methods[method](request, context)

    async def _server_live(self, _request: bytes, _context: CallContext) -> bytes:
        return _bytes(oip.ServerLiveResponse(live=True))

    async def _server_ready(self, _request: bytes, _context: CallContext) -> bytes:
        return _bytes(oip.ServerReadyResponse(ready=self._shelf.ready))

    async def _server_metadata(self, _request: bytes, _context: CallContext) -> bytes:
        return _bytes(self._server)

    async def _model_ready(self, request: bytes, _context: CallContext) -> bytes:
        asked = converters.parse("ModelReady", request)
        ready = self._shelf.knows(asked.name)
        if ready:
            self._shelf.resolve(asked.name, asked.version)
        return _bytes(oip.ModelReadyResponse(ready=ready))

    async def _model_metadata(self, request: bytes, _context: CallContext) -> bytes:
        asked = converters.parse("ModelMetadata", request)
        version = self._shelf.resolve(asked.name, asked.version)
        return _bytes(converters.to_metadata(version, self._shelf.models[asked.name].all))


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
