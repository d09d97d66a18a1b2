"""Streams of pushed batches: each stream is written in its order, and read no faster than that."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

from headrace.ingestion.v1 import ingestion_service_pb2 as pb
from headrace_runtime.errors import HeadraceError, Overloaded, Unavailable

from headrace_ingestion.transport.pushes import Checked, PushDesk

MOST_AHEAD: Final = 32
"""Batches of one stream that are read before the first of them is answered."""


@dataclass(slots=True)
class _Piece:
    """One batch of a stream that waits for its turn."""

    batch_id: str
    """All that is kept of one that is known: it takes no place among what waits."""
    checking: asyncio.Future[Checked | pb.PushResponse]
    """What may be written, or the answer that it got before."""
    place: ExitStack = field(default_factory=ExitStack)
    """Gives up its place among what waits."""


class PushStreams:
    """Answers streams of batches in one event loop; a component of the service, which stops before the server does."""

    def __init__(self, desk: PushDesk) -> None:
        self._desk = desk
        self._open: set[_Stream] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    def start(self) -> None:
        """Do nothing: streams begin when they come."""

    def stop(self) -> None:
        """Have each stream read nothing more, answer what it has read, and end. From any thread."""
        self._stopped = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and all streams with it
                self._loop.call_soon_threadsafe(self._stop_all)

    def _stop_all(self) -> None:
        for each in self._open:
            each.stop()

    async def answered(self, requests: AsyncIterator[pb.PushStreamRequest]) -> AsyncIterator[pb.PushStreamResponse]:
        """Yield the answer to each batch of a stream, in order.

        Raises what `PushDesk.pushed` does for the first batch that cannot be written, with its id; none behind it is.
        """
        self._loop = asyncio.get_running_loop()
        stream = _Stream(self._desk, requests)
        self._open.add(stream)
        if self._stopped:
            stream.stop()
        try:
            async with aclosing(stream.answers()) as answers:
                async for answer in answers:
                    yield answer
        finally:
            self._open.discard(stream)
            stream.close()


class _Stream:
    """One stream: a task reads and checks its batches, and its method writes them in their order."""

    def __init__(self, desk: PushDesk, requests: AsyncIterator[pb.PushStreamRequest]) -> None:
        self._desk = desk
        self._ahead: deque[_Piece] = deque()
        self._changed = asyncio.Event()
        """Set when a batch has come or gone, or none comes any more."""
        self._end: Exception | None = None
        """Why nothing more is read; None at the end of the stream."""
        self._reading = asyncio.create_task(self._read(requests))
        self._reading.add_done_callback(lambda _: self._changed.set())

    async def answers(self) -> AsyncGenerator[pb.PushStreamResponse, None]:
        """Yield the answer to each batch in its turn. Raises why one cannot be written, or nothing more is read."""
        while ready := await self._ready():
            answers = await self._written(ready)
            pieces = [self._ahead.popleft() for _ in answers]
            for piece in pieces:
                piece.place.close()
            self._changed.set()
            for piece, answer in zip(pieces, answers, strict=True):
                yield pb.PushStreamResponse(batch_id=piece.batch_id, answer=answer)
        if self._end is not None:
            raise self._end

    def stop(self) -> None:
        """Read nothing more."""
        if self._reading.cancel():
            self._end = Unavailable("this instance of ingestion stops: send what was not answered to another one")

    def close(self) -> None:
        """Give up what was not answered."""
        self._reading.cancel()
        for piece in self._ahead:
            piece.checking.cancel()
            piece.place.close()

    async def _ready(self) -> list[Checked | pb.PushResponse]:
        """Return what can be written next, in one transaction; nothing at the end. Raises why the first cannot."""
        while not self._ahead:
            if self._reading.done():
                return []
            await self._change()
        first = self._ahead[0]
        try:
            ready, ids = [await first.checking], {first.batch_id}
        except HeadraceError as error:
            raise _named(error, first.batch_id) from error
        for piece in list(self._ahead)[1:]:
            # The same id once more has its answer after the first one is written.
            if not piece.checking.done() or piece.checking.exception() or piece.batch_id in ids:
                break
            ready.append(piece.checking.result())
            ids.add(piece.batch_id)
        return ready

    async def _written(self, ready: list[Checked | pb.PushResponse]) -> list[pb.PushResponse]:
        """Return the answers to what is written now, which may be less than is ready. Raises why the first is not."""
        batches = [each for each in ready if isinstance(each, Checked)]
        try:
            written = iter(await self._desk.written(batches) if batches else ())
        except HeadraceError as error:
            if len(ready) > 1:
                # One that Kafka does not take keeps none before it from being written.
                return await self._written(ready[:1])
            raise _named(error, self._ahead[0].batch_id) from error
        return [next(written) if isinstance(each, Checked) else each for each in ready]

    async def _read(self, requests: AsyncIterator[pb.PushStreamRequest]) -> None:
        try:
            async for each in requests:
                try:
                    piece = await self._begun(each.batch)
                except HeadraceError as error:
                    raise _named(error, each.batch.batch_id) from error
                self._ahead.append(piece)
                self._changed.set()
        except Exception as error:
            # What has come is answered first.
            self._end = error

    async def _begun(self, request: pb.PushRequest) -> _Piece:
        """Return a batch whose check has begun, once there is room. Raises Overloaded where others take all of it."""
        while len(self._ahead) >= MOST_AHEAD:
            await self._change()
        if (known := self._desk.known(request)) is not None:
            answered: asyncio.Future[Checked | pb.PushResponse] = asyncio.get_running_loop().create_future()
            answered.set_result(known)
            return _Piece(request.batch_id, answered)
        place = ExitStack()
        while True:
            try:
                place.enter_context(self._desk.place(request))
                break
            except Overloaded:
                if not self._ahead:
                    raise
                await self._change()
        checking: asyncio.Future[Checked | pb.PushResponse] = asyncio.ensure_future(self._desk.checked(request))
        checking.add_done_callback(_looked_at)
        return _Piece(request.batch_id, checking, place)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _looked_at(checking: asyncio.Future[Checked | pb.PushResponse]) -> None:
    if not checking.cancelled():
        checking.exception()  # a batch before it may have ended the stream


def _named(error: HeadraceError, batch_id: str) -> HeadraceError:
    """Return the error with the batch that it is about, which a caller of a stream has to know."""
    error.args = (f"batch {batch_id!r}: {error}",)
    return error
