"""ModelStreamInfer, an extension of Triton: many calls on one stream, which costs each of them a third of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator

from headrace import open_inference as oip
from headrace_runtime.errors import HeadraceError, InvalidInput

from headrace_inference.ports import Method, StreamContext
from headrace_inference.transport import converters, wire

ENDS_WITH_ERRORS = ("triton_grpc_error", "true")
"""Metadata of a stream that is to end with the status of its first error."""
FINAL_ASKED = "triton_enable_empty_final_response"
"""Parameter of a call that wants to be told which answer is its last; here each call has one."""

_ANSWER = 2
"""Number of `infer_response` in ModelStreamInferResponse."""


class Streaming:
    """Answers streams of calls with what answers one call."""

    def __init__(self, infer: Method) -> None:
        self._infer = infer
        told = oip.ModelInferResponse()
        told.parameters["triton_final_response"].bool_param = True
        self._final = bytes(told.SerializeToString())

    async def stream(self, requests: AsyncIterator[bytes], context: StreamContext) -> AsyncIterator[bytes]:
        """Yield a serialised ModelStreamInferResponse for each serialised ModelInferRequest, in their order.

        A call that cannot be answered has its error as a message, and the stream goes on. Raises errors of
        headrace_runtime.errors for callers who ask for that by ENDS_WITH_ERRORS.
        """
        ends_with_errors = ENDS_WITH_ERRORS in map(tuple, context.invocation_metadata())
        async for request in requests:
            try:
                answer = await self._infer(request, context)
            except HeadraceError as error:
                if ends_with_errors:
                    raise
                yield _refused(request, error)
                continue
            if FINAL_ASKED.encode() in request and _wants_final(request):
                answer += self._final
            yield wire.head(_ANSWER, len(answer)) + answer


def _refused(request: bytes, error: HeadraceError) -> bytes:
    refused = oip.ModelStreamInferResponse(error_message=str(error))
    try:
        refused.infer_response.id = converters.parse("ModelInfer", request).id
    except InvalidInput:
        refused.infer_response.SetInParent()
    return bytes(refused.SerializeToString())


def _wants_final(request: bytes) -> bool:
    parameters = converters.parse("ModelInfer", request).parameters
    return FINAL_ASKED in parameters and bool(parameters[FINAL_ASKED].bool_param)
