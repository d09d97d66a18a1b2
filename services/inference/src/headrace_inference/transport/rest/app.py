"""The application: every path of the table, its errors told as its callers expect them, within their time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from headrace_runtime.errors import DeadlineExceeded
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from headrace_inference.transport.plane import Plane
from headrace_inference.transport.records.desk import RecordDesk
from headrace_inference.transport.rest import openapi
from headrace_inference.transport.rest.beside import Beside
from headrace_inference.transport.rest.caller import Bodies, Caller
from headrace_inference.transport.rest.embeddings import Embeddings
from headrace_inference.transport.rest.observing import observed
from headrace_inference.transport.rest.paths import OPENAI, PATHS, Path
from headrace_inference.transport.rest.problems import Problem, as_openai, problem, problem_of
from headrace_inference.transport.rest.protocol import Protocol
from headrace_inference.transport.rest.records import Records
from headrace_inference.transport.rest.told import Endpoint, Streamed, Told
from headrace_inference.transport.rest.written import WrittenAnswers


class Rest:
    """Answers requests with a plane, in its event loop. `draining` tells whether callers are to go elsewhere."""

    def __init__(
        self, plane: Plane, desk: RecordDesk, bodies: Bodies, beside: Beside, draining: Callable[[], bool]
    ) -> None:
        self._draining = draining
        endpoints: dict[str, Endpoint] = {
            **Protocol(plane, bodies, beside, draining).endpoints,
            **Embeddings(plane, bodies, beside).endpoints,
            **WrittenAnswers(plane, bodies, beside).endpoints,
            "records": Records(desk, bodies).predict,
            "openapi": _openapi,
            "docs": _docs,
        }
        routes = [
            Route(each.path, self._guarded(each, endpoints[each.endpoint]), methods=[each.method]) for each in PATHS
        ]
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: self._no_such_path})

    def _guarded(self, path: Path, answer: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers a path, its errors turned into problems, within the time that the caller has."""

        def failed(error: Exception) -> Response:
            return self._failed(problem_of(error, path.path), openai=path.openai)

        async def endpoint(request: Request) -> Response:
            with observed(request.method, path.path, request.scope["headers"]) as seen:
                told: tuple[tuple[str, str], ...] = ()
                try:
                    caller = Caller(request.headers)
                    async with asyncio.timeout_at(caller.ends):
                        found = await answer(request, caller)
                    told = caller.told
                except TimeoutError:
                    late = DeadlineExceeded("the caller's time was over before the answer was there")
                    return seen.ends_with(failed(late))
                except Exception as error:
                    return seen.ends_with(failed(error))
                if isinstance(found, Streamed):
                    events = StreamingResponse(found.events, media_type="text/event-stream")
                    events.headers["cache-control"] = "no-store"
                    return seen.ends_with(self._sent(events))
                response = Response(found.body, found.status, dict((*found.headers, *told)), found.kind)
                return seen.ends_with(self._sent(response))

        return endpoint

    def _failed(self, told: Problem, *, openai: bool) -> Response:
        told = as_openai(told) if openai else told
        response = Response(told.body, told.status)
        response.raw_headers += told.headers
        return self._sent(response)

    def _sent(self, response: Response) -> Response:
        if self._draining():
            response.headers["connection"] = "close"
        return response

    async def _no_such_path(self, request: Request, error: Any) -> Response:
        status = HTTPStatus(error.status_code)
        openai = request.url.path.startswith(OPENAI)
        told = f"expected a path of /openapi.json: {status.phrase}"
        response = self._failed(problem(status, told), openai=openai)
        response.headers.update(error.headers or {})
        return response


async def _openapi(_request: Request, _caller: Caller) -> Told:
    return Told(openapi.document())


async def _docs(_request: Request, _caller: Caller) -> Told:
    return Told(openapi.page(), kind="text/html; charset=utf-8")
