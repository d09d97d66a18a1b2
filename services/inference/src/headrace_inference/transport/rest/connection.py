"""One HTTP connection, with the bounds that uvicorn leaves open: of heads, in size and in time, and of calls ahead."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace_inference.transport.rest.lingering import Lingering
from headrace_inference.transport.rest.problems import problem

MOST_HEAD_BYTES = 32 * 1024
MOST_HEADERS = 128
MOST_AHEAD = 16
"""Requests that may be sent ahead of the answer to the first one."""

_BODY = {b"content-length", b"transfer-encoding"}


class Connection(HttpToolsProtocol):
    """Closes connections beyond `most`, and those whose request's head takes longer than `head_s` seconds to arrive.

    A call ends when its caller leaves. Who is refused while he sends has time to read why.
    """

    most = 1000
    head_s = 20.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._answer = self.app
        self.app = self._answer_here
        self._in_head = False
        self._beside_bytes = 0
        self._went_on = False
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self._answered: Any = None
        """The call that is being answered; `cycle` is the last that came, which may be waiting behind it."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request, or close what is one too many."""
        super().connection_made(Lingering(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is being answered: nobody waits for it."""
        self._end_wait()
        self._end_unread()
        self._lingering.lost()
        self.pipeline.clear()
        if self._answered is not None:
            self._answered.disconnected = True
        super().connection_lost(exc)
        for task in self._tasks:
            if task is not None:
                task.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on, as long as what is no body stays within its bounds: heads, but trailers and extensions too."""
        if self.transport.is_closing():
            self._lingering.discard(data)
            return
        self._went_on, self._lingering.arriving = False, True
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._beside_bytes = 0 if self._went_on else self._beside_bytes + len(data)
        if self._beside_bytes > MOST_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"expected a head of {MOST_HEAD_BYTES} bytes")
            return
        if self._in_head or self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = self._lingering.arriving = True

    def on_headers_complete(self) -> None:
        """Begin a call, unless its head is too large or too many are ahead of it."""
        self._in_head = False
        self._end_wait()
        if self.transport.is_closing():
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MOST_HEAD_BYTES or len(self.headers) > MOST_HEADERS:
            told = f"expected a head of {MOST_HEAD_BYTES} bytes and {MOST_HEADERS} headers, got {size} bytes"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told)
            return
        if self.parser.should_upgrade() and any(name in _BODY for name, _ in self.headers):
            # The parser takes what follows for another protocol, and then for the next request: not what was meant.
            self._refuse(
                HTTPStatus.BAD_REQUEST, "expected HTTP/1.1 without an upgrade to anything else where a body is"
            )
            return
        if len(self.pipeline) >= MOST_AHEAD:
            self.transport.abort()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, of a call that was begun."""
        self._went_on = True
        if self.cycle is not None and not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a body, of a call that was begun."""
        self._went_on, self._lingering.arriving = True, False
        if self.cycle is not None and not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Tell that what came is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def pause_writing(self) -> None:
        """Wait for a caller that does not read, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        self._end_unread()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection without a request, and drop what its caller has not read by now."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _end_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _wait_for_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self._slow)

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _slow(self) -> None:
        self._timer = None
        if self._in_head or self.cycle is None:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request did not arrive within {self.head_s:g} s")
        else:
            self.transport.close()  # what came belongs to a request that is answered: no answer may follow

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Close the connection with a problem, where no other answer is on its way."""
        if self.cycle is None or self.cycle.response_complete:
            told = problem(status, detail, close=True)
            headers = [*told.headers, (b"content-length", b"%d" % len(told.body))]
            head = b"".join(b"%b: %b\r\n" % each for each in headers)
            self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), head, told.body))
            self.transport.close()
        else:
            self._lingering.close_now()

    @property
    def _lingering(self) -> Lingering:
        return cast(Lingering, self.transport)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    async def _answer_here(self, scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._answer(scope, receive, send)
        except asyncio.CancelledError:
            if not self.transport.is_closing():
                raise
        finally:
            self._tasks.discard(task)
