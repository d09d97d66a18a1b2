"""ModelStreamInfer, an extension of Triton: many calls on one stream, which costs each of them a third of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Protocol

from headrace import open_inference as oip
from headrace_runtime.errors import HeadraceError, InvalidInput

from headrace_inference.ports import CallContext, Method, StreamContext
from headrace_inference.transport import converters, wire
from headrace_inference.transport.pieces import wants_final

ENDS_WITH_ERRORS = ("triton_grpc_error", "true")
"""Metadata of a stream that is to end with the status of its first error."""
MOST_AHEAD = 64
"""Answers of one stream that are ready before its caller takes them."""

_ANSWER = 2
"""Number of `infer_response` in ModelStreamInferResponse."""

_Told = asyncio.Queue[bytes | Exception | None]


class Decoupled(Protocol):
    """What answers some calls with several messages each."""

    def takes(self, request: bytes) -> bool:
        """Return whether a serialised ModelInferRequest is such a call."""

    def stream(self, request: bytes, context: CallContext) -> AsyncGenerator[bytes, None]:
        """Yield serialised ModelInferResponses to it."""


class Streaming:
    """Answers streams of calls: with what answers one call, and those that `decoupled` takes with that."""

    def __init__(self, infer: Method, decoupled: Decoupled) -> None:
        self._infer = infer
        self._decoupled = decoupled
        self._final = converters.final_part(final=True)

    async def stream(self, requests: AsyncIterator[bytes], context: StreamContext) -> AsyncIterator[bytes]:
        """Yield serialised ModelStreamInferResponses to serialised ModelInferRequests: one to each, in their order.

        From the first call of a decoupled model on, several such calls are answered at once, each with as many
        messages as it takes: messages of different calls may come in any order, and those of other calls in between.

        A call that cannot be answered has its error as a message, and the stream goes on. Raises errors of
        headrace_runtime.errors for callers who ask for that by ENDS_WITH_ERRORS.
        """
        ends_with_errors = ENDS_WITH_ERRORS in map(tuple, context.invocation_metadata())
        async for request in requests:
            if self._decoupled.takes(request):
                break
            try:
                yield await self._answer(request, context)
            except HeadraceError as error:
                if ends_with_errors:
                    raise
                yield _refused(request, error)
        else:
            return
        told: _Told = asyncio.Queue(MOST_AHEAD)
        answering = asyncio.create_task(self._answer_together(request, requests, context, told))
        try:
            while (each := await told.get()) is not None:
                if isinstance(each, _Refusal) and not ends_with_errors:
                    yield each.message
                elif isinstance(each, Exception):
                    raise each.error if isinstance(each, _Refusal) else each
                else:
                    yield each
        finally:
            answering.cancel()
            await asyncio.wait([answering])

    async def _answer(self, request: bytes, context: StreamContext) -> bytes:
        answer = await self._infer(request, context)
        if wants_final(request):
            answer += self._final
        return wire.head(_ANSWER, len(answer)) + answer

    async def _answer_together(
        self, first: bytes, others: AsyncIterator[bytes], context: StreamContext, told: _Told
    ) -> None:
        """Answer a call of a decoupled model, and all that follow on its stream."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._answer_pieces(first, context, told))
                async for request in others:
                    if self._decoupled.takes(request):
                        group.create_task(self._answer_pieces(request, context, told))
                        continue
                    try:
                        await told.put(await self._answer(request, context))
                    except HeadraceError as error:
                        await told.put(_Refusal(request, error))
        except ExceptionGroup as errors:
            await told.put(errors.exceptions[0])
        else:
            await told.put(None)

    async def _answer_pieces(self, request: bytes, context: StreamContext, told: _Told) -> None:
        try:
            async with aclosing(self._decoupled.stream(request, context)) as answers:
                async for answer in answers:
                    await told.put(wire.head(_ANSWER, len(answer)) + answer)
        except HeadraceError as error:
            await told.put(_Refusal(request, error))


class _Refusal(Exception):
    """A call that could not be answered."""

    def __init__(self, request: bytes, error: HeadraceError) -> None:
        super().__init__(str(error))
        self.error = error
        self.message = _refused(request, error)


def _refused(request: bytes, error: HeadraceError) -> bytes:
    refused = oip.ModelStreamInferResponse(error_message=str(error))
    try:
        refused.infer_response.id = converters.parse("ModelInfer", request).id
    except InvalidInput:
        refused.infer_response.SetInParent()
    return bytes(refused.SerializeToString())
