"""What the endpoints of REST answer, before it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from starlette.requests import Request

from headrace_inference.transport.rest.caller import Caller


class Told(NamedTuple):
    """A whole answer."""

    body: bytes
    status: int = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = "application/json"


class Streamed(NamedTuple):
    """An answer that comes as server-sent events, one after the other; the first one is at hand."""

    events: AsyncGenerator[bytes, None]


Endpoint = Callable[[Request, Caller], Awaitable[Told | Streamed]]
