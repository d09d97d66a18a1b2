"""Another server that runs models of language, over HTTP: what is asked of it, and answers that come as events.

One connection for each request, which is little beside an answer of many tokens: so ending a request is closing its
connection, which servers take for a cancel.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from headrace_engines.errors import Busy, EngineDied, EngineError, Unanswerable

ASK_S: Final = 5.0
"""Seconds that a connection and each read may take of what is answered at once."""
_MOST_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of one answer that is no stream, and of one event of a stream that is."""
_MOST_SHOWN: Final = 300
_CHUNK: Final = 64 * 1024
_DONE: Final = b"[DONE]"
_REFUSED: Final = frozenset({400, 413, 422})
_BUSY: Final = frozenset({408, 425, 429, 503})
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""A machine that is gone is found out within half a minute, however long an answer waits for its turn."""
_ABSENT: Final = frozenset({404, 405, 501})


class Absent(EngineError):
    """The server has no such path, or no such model."""


class Upstream:
    """One server. `key` gives what is sent as a bearer token, empty for none; it is asked for each request."""

    def __init__(self, url: str, key: Callable[[], str] = str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        parts = urlsplit(self.url)
        self._host, self._path = parts.hostname or "", parts.path
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._key = key

    def __str__(self) -> str:
        return self.url

    def get(self, path: str) -> bytes:
        """Return what is at a path. Raises as `ask` does."""
        with Exchange(self, ASK_S) as exchange:
            return exchange.whole("GET", path, None)

    def ask(self, path: str, body: Mapping[str, Any], within_s: float = ASK_S) -> dict[str, Any]:
        """Return the object that a path answers.

        Raises Unanswerable for what the server refuses, Busy, Absent, and EngineDied for all else: no server, half an
        answer, one that is no object.
        """
        with Exchange(self, within_s) as exchange:
            return read_object(self, exchange.whole("POST", path, body))

    def tell(self, path: str, body: Mapping[str, Any], within_s: float = ASK_S) -> None:
        """Post something whose answer says no more than that it was done. Raises as `ask` does."""
        with Exchange(self, within_s) as exchange:
            exchange.whole("POST", path, body)

    def connection(self, within_s: float) -> HTTPConnection:
        """Return a connection that is yet to be made."""
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=within_s)
        return HTTPSConnection(self._host, self._port, timeout=within_s, context=self._tls)

    def path(self, path: str) -> str:
        """Return a path as the server has it."""
        return self._path + path

    def headers(self) -> dict[str, str]:
        """Return what every request says."""
        found = {"Connection": "close", "Content-Type": "application/json", "Accept-Encoding": "identity"}
        key = self._key()
        return {**found, "Authorization": f"Bearer {key}"} if key else found


class Exchange:
    """One request, and what is answered. `end` may be called from any thread, and ends it."""

    def __init__(self, upstream: Upstream, within_s: float) -> None:
        self._upstream = upstream
        self._connection = upstream.connection(min(within_s, ASK_S))
        self._within_s = within_s
        self._socket: socket.socket | None = None
        self.is_ended = False

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._connection.close()

    def end(self) -> None:
        """Close the connection under whoever waits for it."""
        self.is_ended = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def whole(self, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        """Return all that is answered. Raises as `Upstream.ask` does."""
        with self._translated():
            response = self._begin(method, path, body)
            found = response.read(_MOST_BYTES + 1)
            self._check(response, found)
            if len(found) > _MOST_BYTES:
                raise EngineDied(f"{self._upstream}: expected at most {_MOST_BYTES} bytes, got more")
            return found

    def events(self, path: str, body: Mapping[str, Any], most_bytes: int) -> Iterator[dict[str, Any]]:
        """Yield the objects of a stream of server-sent events, until it says that it is done.

        Raises as `Upstream.ask` does; a stream that ends otherwise, or is longer than `most_bytes`, is EngineDied.
        """
        with self._translated():
            response = self._begin("POST", path, body)
            if response.status != 200:
                self._check(response, response.read(_CHUNK))
            left, seen = b"", 0
            while got := response.read1(_CHUNK):
                *lines, left = (left + got).split(b"\n")
                seen += len(got)
                if seen > most_bytes or len(left) > _MOST_BYTES:
                    raise EngineDied(f"{self._upstream}: expected at most {most_bytes} bytes of an answer, got more")
                for line in lines:
                    if not line.startswith(b"data:"):
                        continue
                    if (data := line[5:].strip()) == _DONE:
                        return
                    yield read_object(self._upstream, data)
        raise EngineDied(f"{self._upstream}: the answer broke off before its end")

    def _begin(self, method: str, path: str, body: Mapping[str, Any] | None) -> HTTPResponse:
        connection = self._connection
        connection.connect()
        self._socket = made = connection.sock
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        made.settimeout(self._within_s)
        if self.is_ended:
            raise ConnectionAbortedError("ended before it began")
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, self._upstream.path(path), data, self._upstream.headers())
        return connection.getresponse()

    def _check(self, response: HTTPResponse, found: bytes) -> None:
        status = response.status
        if status == 200:
            return
        told = f"{self._upstream}: status {status}: {_said(found)}"
        if status in _REFUSED:
            raise Unanswerable(told)
        if status in _ABSENT:
            raise Absent(told)
        raise Busy(told) if status in _BUSY else EngineDied(told)

    def _translated(self) -> _Translated:
        return _Translated(self._upstream)


class _Translated:
    """Turns what goes wrong on a connection into EngineDied."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def __enter__(self) -> None:
        """Nothing has gone wrong yet."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        # ValueError: a chunk whose size is no number, or a file that the end of the request has closed.
        if isinstance(error, OSError | HTTPException | ValueError) and not isinstance(error, EngineError):
            raise EngineDied(f"{self._upstream}: {error or kind!r}") from error


def read_object(upstream: Upstream, data: bytes) -> dict[str, Any]:
    """Return the JSON object that a server sent. Raises EngineDied for anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EngineDied(f"{upstream}: expected JSON, got {data[:_MOST_SHOWN]!r}") from error
    if not isinstance(found, dict):
        raise EngineDied(f"{upstream}: expected an object, got {data[:_MOST_SHOWN]!r}")
    return found


def _said(body: bytes) -> str:
    """Return what a server says of an error, in one line: OpenAI's shape, or the beginning of what came."""
    with suppress(ValueError, RecursionError):
        told = json.loads(body)
        if isinstance(told, dict):
            told = told.get("error", told)
            told = told.get("message", told) if isinstance(told, dict) else told
            return " ".join(str(told).split())[:_MOST_SHOWN]
    return " ".join(body.decode(errors="replace").split())[:_MOST_SHOWN]
