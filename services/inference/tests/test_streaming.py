from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import pytest
from headrace import open_inference as oip
from headrace_inference.ports import CallContext
from headrace_inference.transport.pieces import FINAL_ASKED
from headrace_inference.transport.streaming import Streaming
from headrace_runtime.errors import NotFound, Unavailable


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


class Words:
    """Answers calls of the model `words` with as many messages as their number says, and fails after those of 4."""

    def __init__(self) -> None:
        self.open = 0

    def takes(self, request: bytes) -> bool:
        return oip.ModelInferRequest.FromString(request).model_name == "words"

    async def stream(self, request: bytes, _context: CallContext) -> AsyncGenerator[bytes, None]:
        call = oip.ModelInferRequest.FromString(request).id
        self.open += 1
        try:
            for _ in range(int(call)):
                await asyncio.sleep(0)
                yield bytes(oip.ModelInferResponse(id=call).SerializeToString())
            if call == "4":
                raise Unavailable("the engine died")
        finally:
            self.open -= 1


def stream(*requests: Any, context: Context | None = None) -> list[Any]:
    async def sent() -> AsyncIterator[bytes]:
        for request in requests:
            yield request.SerializeToString()

    async def collect() -> list[Any]:
        answers = Streaming(infer, Words()).stream(sent(), context or Context())
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


def test_calls_of_a_decoupled_model_are_answered_at_once() -> None:
    answers = [
        answer.infer_response.id for answer in stream(request(1), request(50, "words"), request(2, "words"), request(3))
    ]
    assert sorted(answers, key=int) == ["1", "2", "2", "3", *["50"] * 50]
    assert answers[0] == "1"
    assert answers[-1] == "50"


def test_what_ends_half_way_says_so_and_the_others_go_on() -> None:
    answers = stream(request(4, "words"), request(20, "words"))
    (error,) = [answer for answer in answers if answer.error_message]
    assert (error.error_message, error.infer_response.id) == ("the engine died", "4")
    assert len(answers) == 25


def test_an_error_ends_the_other_answers_of_who_wants_that() -> None:
    with pytest.raises(Unavailable):
        stream(request(4, "words"), request(1000, "words"), context=Context(("triton_grpc_error", "true")))


def test_whoever_leaves_a_stream_gives_every_place_up() -> None:
    words = Words()

    async def leave() -> None:
        async def sent() -> AsyncIterator[bytes]:
            yield request(1000, "words").SerializeToString()
            yield request(2000, "words").SerializeToString()
            await asyncio.Event().wait()

        answers = Streaming(infer, words).stream(sent(), Context())
        for _ in range(10):
            await anext(answers)
        assert words.open == 2
        await answers.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert words.open == 0
