"""The seam of inference: a method and its bytes in, bytes or a named error out.

Whatever carries the bytes, gRPC in Python or a native front, everything else lies behind `Plane.call` and, for what
needs nobody else, `Plane.infer_now`. Streams of calls have `Plane.stream_infer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version as installed_version
from typing import Any

from headrace import open_inference as oip
from headrace_runtime.errors import InvalidInput, NotSupported

from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.ports import CallContext, Method
from headrace_inference.transport import converters, introspection
from headrace_inference.transport.abilities import Abilities
from headrace_inference.transport.predictor import Predictor
from headrace_inference.transport.streaming import Streaming
from headrace_inference.transport.switched_off import SwitchedOff

EXTENSIONS = ("classification", "model_configuration", "model_repository", "parameters", "statistics")
"""What is answered beyond the Open Inference Protocol, in Triton's words."""


class Plane:
    """Answers the methods of the Open Inference Protocol. Used in one event loop, but for `infer_now`."""

    def __init__(self, shelf: Shelf, predictor: Predictor) -> None:
        self._shelf = shelf
        self.infer_now = predictor.infer_now
        """Answers ModelInfer in the thread in which it arrives, or returns None: then it has to be called."""
        self.stream_infer = Streaming(predictor.infer, predictor.pieces).stream
        """Answers ModelStreamInfer."""
        self.pieces = predictor.pieces
        """Answers calls of models of language, piece by piece."""
        self.abilities = Abilities(shelf)
        """Tells which models write texts, and which answer embeddings."""
        self._statistics = predictor.statistics
        self._server = oip.ServerMetadataResponse(
            name="headrace", version=installed_version("headrace-inference"), extensions=EXTENSIONS
        )
        self._methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": predictor.infer,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": _refuse_control,
            "RepositoryModelUnload": _refuse_control,
            **_switched_off(SwitchedOff(shelf)),
        }

    def method(self, name: str) -> Method:
        """Return what answers a method: `call` without asking for it each time."""
        return self._methods[name]

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

    async def _model_config(self, request: bytes, _context: CallContext) -> bytes:
        asked = converters.parse("ModelConfig", request)
        version = self._shelf.resolve(asked.name, asked.version)
        return _bytes(introspection.to_config(version, self._shelf.models[asked.name].all))

    async def _model_statistics(self, request: bytes, _context: CallContext) -> bytes:
        asked = converters.parse("ModelStatistics", request)
        return _bytes(introspection.to_statistics(self._versions(asked.name, asked.version), self._statistics))

    def _versions(self, model: str, version: str) -> Iterable[LoadedVersion]:
        """Return the version asked for, all of a model, or all there are."""
        if version and not model:
            raise InvalidInput(f"expected the name of a model beside version {version!r}, got none")
        if version:
            return [self._shelf.resolve(model, version)]
        if not model:
            return [loaded for versions in self._shelf.models.values() for loaded in versions.all]
        return self._shelf.models[model].all if self._shelf.knows(model) else ()

    async def _repository_index(self, request: bytes, _context: CallContext) -> bytes:
        asked = converters.parse("RepositoryIndex", request)
        return _bytes(introspection.to_index(self._shelf, only_ready=asked.ready))


def _switched_off(off: SwitchedOff) -> dict[str, Method]:
    answers: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("TraceSetting", off.trace_setting),
        ("LogSettings", off.log_settings),
        ("SystemSharedMemoryStatus", off.system_status),
        ("SystemSharedMemoryRegister", off.register),
        ("SystemSharedMemoryUnregister", off.unregister_system),
        ("CudaSharedMemoryStatus", off.cuda_status),
        ("CudaSharedMemoryRegister", off.register),
        ("CudaSharedMemoryUnregister", off.unregister_cuda),
    )
    return {name: _answering(name, answer) for name, answer in answers}


def _answering(name: str, answer: Callable[[Any], Any]) -> Method:
    """Return a method that parses its request and serialises its answer."""

    async def method(request: bytes, _context: CallContext) -> bytes:
        return _bytes(answer(converters.parse(name, request)))

    return method


async def _refuse_control(_request: bytes, _context: CallContext) -> bytes:
    raise NotSupported("models are loaded and unloaded by their releases, not by calls: see `headrace rollback`")


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
