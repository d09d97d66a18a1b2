"""The paths of the Open Inference Protocol, each a method of the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from headrace import open_inference as oip
from headrace_runtime.errors import InvalidInput
from starlette.requests import Request

from headrace_inference.transport.plane import Plane
from headrace_inference.transport.rest.beside import Beside
from headrace_inference.transport.rest.caller import JSON_BYTES, Bodies, Caller, whole_number
from headrace_inference.transport.rest.reading import read_json
from headrace_inference.transport.rest.told import Endpoint, Told
from headrace_inference.transport.rest.writing import plain, write_json

REST_EXTENSIONS = ("binary_tensor_data",)
"""What is answered here beyond the extensions of the plane."""


class Protocol:
    """Answers requests with a plane, in its event loop. `draining` tells whether callers are to go elsewhere."""

    def __init__(self, plane: Plane, bodies: Bodies, beside: Beside, draining: Callable[[], bool]) -> None:
        self._plane = plane
        self._bodies = bodies
        self._beside = beside
        self._draining = draining
        self.endpoints: Mapping[str, Endpoint] = {
            "server": self._server,
            "live": self._live,
            "ready": self._ready,
            "index": self._index,
            "infer": self._infer,
            "model": self._model,
            "model_ready": self._model_ready,
            "statistics": self._statistics,
            "config": self._config,
        }
        """What answers, by the names of the table of paths."""

    async def _asked(self, method: str, request: Any, caller: Caller) -> Any:
        """Return the plane's answer to a message."""
        answer = await self._plane.call(method, request.SerializeToString(), caller)
        return oip.METHODS[method][1].FromString(answer)

    async def _server(self, _request: Request, caller: Caller) -> Told:
        found = plain(await self._asked("ServerMetadata", oip.ServerMetadataRequest(), caller))
        found["extensions"] = [*found["extensions"], *REST_EXTENSIONS]
        return Told(write_json(found))

    async def _live(self, _request: Request, caller: Caller) -> Told:
        return Told(write_json(plain(await self._asked("ServerLive", oip.ServerLiveRequest(), caller))))

    async def _ready(self, _request: Request, caller: Caller) -> Told:
        answer = await self._asked("ServerReady", oip.ServerReadyRequest(), caller)
        return _readiness({"ready": answer.ready and not self._draining()})

    async def _model_ready(self, request: Request, caller: Caller) -> Told:
        answer = await self._asked("ModelReady", oip.ModelReadyRequest(**_named(request)), caller)
        return _readiness({"name": request.path_params["model"], "ready": answer.ready})

    async def _model(self, request: Request, caller: Caller) -> Told:
        found = plain(await self._asked("ModelMetadata", oip.ModelMetadataRequest(**_named(request)), caller))
        return Told(write_json(found))

    async def _config(self, request: Request, caller: Caller) -> Told:
        found = await self._asked("ModelConfig", oip.ModelConfigRequest(**_named(request)), caller)
        return Told(write_json(plain(found.config)))

    async def _statistics(self, request: Request, caller: Caller) -> Told:
        found = await self._asked("ModelStatistics", oip.ModelStatisticsRequest(**_named(request)), caller)
        return Told(write_json(plain(found)))

    async def _index(self, request: Request, caller: Caller) -> Told:
        body = await self._bodies.read(request.receive, request.headers)
        asked = read_json(body) if body else {}
        ready = asked.get("ready", False) if isinstance(asked, dict) else None
        if not isinstance(ready, bool):
            raise InvalidInput("expected an object, with true or false as ready where it has that")
        found = await self._asked("RepositoryIndex", oip.RepositoryIndexRequest(ready=ready), caller)
        return Told(write_json([plain(each) for each in found.models]))

    async def _infer(self, request: Request, caller: Caller) -> Told:
        json_bytes = whole_number(request.headers, JSON_BYTES)
        body = await self._bodies.read(request.receive, request.headers)
        named = request.path_params
        path = {"model": named["model"], "version": named.get("version", ""), "json_bytes": json_bytes}
        asked, request_bytes = await self._beside.do("call", path, body, json_bytes)
        answer = await self._plane.call("ModelInfer", request_bytes, caller)
        # What goes as it is costs nothing to write.
        plain_bytes = 0 if asked["all_binary"] and not asked["binary"] else len(answer)
        written, sent = await self._beside.do("answer", asked, answer, plain_bytes)
        if written["json_bytes"] is None:
            return Told(sent)
        headers = (("Inference-Header-Content-Length", str(written["json_bytes"])),)
        return Told(sent, headers=headers, kind="application/octet-stream")


def _named(request: Request) -> dict[str, str]:
    """Return model and version of a path as messages name them."""
    return {"name": request.path_params.get("model", ""), "version": request.path_params.get("version", "")}


def _readiness(found: dict[str, Any]) -> Told:
    status = HTTPStatus.OK if found["ready"] else HTTPStatus.SERVICE_UNAVAILABLE
    return Told(write_json(found), status)
