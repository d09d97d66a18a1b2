from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from headrace import open_inference as oip
from headrace_inference.ports import CallContext
from headrace_inference.transport.streaming import FINAL_ASKED, Streaming
from headrace_runtime.errors import NotFound


class Context:
    def __init__(self, *sent: tuple[str, str]) -> None:
        self._sent = sent

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self._sent

    def time_remaining(self) -> float | None:
        return None

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody asks for it here."""


async def infer(request: bytes, _context: CallContext) -> bytes:
    asked = oip.ModelInferRequest.FromString(request)
    if asked.model_name == "nope":
        raise NotFound("model 'nope' is not released")
    return bytes(oip.ModelInferResponse(model_name=asked.model_name, id=asked.id).SerializeToString())


def stream(*requests: Any, context: Context | None = None) -> list[Any]:
    async def sent() -> AsyncIterator[bytes]:
        for request in requests:
            yield request.SerializeToString()

    async def collect() -> list[Any]:
        answers = Streaming(infer).stream(sent(), context or Context())
        return [oip.ModelStreamInferResponse.FromString(answer) async for answer in answers]

    return asyncio.run(collect())


def request(number: int, model: str = "digits", **fields: Any) -> Any:
    return oip.ModelInferRequest(model_name=model, id=str(number), **fields)


def test_every_call_is_answered_in_its_order() -> None:
    answers = stream(*(request(number) for number in range(200)))
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(200)]
    assert not any(answer.error_message for answer in answers)


def test_an_error_is_told_and_the_stream_goes_on() -> None:
    first, refused, last = stream(request(1), request(2, "nope"), request(3))
    assert (refused.error_message, refused.infer_response.id) == ("model 'nope' is not released", "2")
    assert [first.infer_response.id, last.infer_response.id] == ["1", "3"]


def test_an_error_ends_the_stream_of_who_wants_that() -> None:
    with pytest.raises(NotFound):
        stream(request(1), request(2, "nope"), context=Context(("triton_grpc_error", "true")))


@pytest.mark.parametrize("asked", [True, False])
def test_who_asks_is_told_which_answer_is_the_last(asked: bool) -> None:
    (answer,) = stream(request(1, parameters={FINAL_ASKED: oip.InferParameter(bool_param=asked)}))
    assert list(answer.infer_response.parameters) == ["triton_final_response"] * asked
