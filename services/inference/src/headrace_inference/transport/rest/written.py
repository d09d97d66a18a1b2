"""OpenAI's chat completions and completions, answered by models of language: whole, or as server-sent events."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from headrace import open_inference as oip
from headrace_engines.generator import Piece
from starlette.requests import Request

from headrace_inference.core import generation
from headrace_inference.core.asked import Answer
from headrace_inference.core.generation import Usage
from headrace_inference.core.tensors import OutputTensor, decode_output
from headrace_inference.transport.pieces import request_of
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.rest.asking import Asked
from headrace_inference.transport.rest.beside import Beside
from headrace_inference.transport.rest.caller import Bodies, Caller
from headrace_inference.transport.rest.problems import as_openai, problem_of
from headrace_inference.transport.rest.told import Endpoint, Streamed, Told
from headrace_inference.transport.rest.works import asked_of
from headrace_inference.transport.rest.writing import write_json

DONE: Final = b"data: [DONE]\n\n"
"""What every stream ends with that is whole, and no other."""
Choice = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Form:
    """How one of the two paths tells an answer."""

    prefix: str
    whole: str
    part: str
    choice: Callable[[str, Any], Choice]
    """Makes a choice of a whole text and its log-probabilities."""
    delta: Callable[[str, Any], Choice]
    """Makes one of a piece."""
    logprobs: Callable[[list[tuple[Piece, int]]], Any]
    """Makes log-probabilities of pieces, each with the letters before it."""


def _chat_logprobs(pieces: list[tuple[Piece, int]]) -> Any:
    content = [
        {"token": text, "logprob": value, "bytes": raw, "top_logprobs": []}
        for piece, _ in pieces
        for text, raw, value in _tokens(piece)
    ]
    return {"content": content, "refusal": None}


def _text_logprobs(pieces: list[tuple[Piece, int]]) -> Any:
    tokens = [(text, value, before) for piece, before in pieces for text, _, value in _tokens(piece)]
    return {
        "tokens": [text for text, _, _ in tokens],
        "token_logprobs": [value for _, value, _ in tokens],
        "top_logprobs": None,
        "text_offset": [before for _, _, before in tokens],
    }


def _tokens(piece: Piece) -> list[tuple[str, list[int] | None, float]]:
    """Return a piece's tokens: each by its text where it is the only one of a piece, by its number where it is not."""
    if len(piece.tokens) == 1 and piece.text:
        return [(piece.text, list(piece.text.encode()), value) for value in piece.logprobs]
    return [(f"token_id:{token}", None, value) for token, value in zip(piece.tokens, piece.logprobs, strict=False)]


_CHAT: Final = _Form(
    "chatcmpl",
    "chat.completion",
    "chat.completion.chunk",
    lambda text, logprobs: {"message": {"role": "assistant", "content": text, "refusal": None}, "logprobs": logprobs},
    lambda text, logprobs: {"delta": {"content": text} if text else {}, "logprobs": logprobs},
    _chat_logprobs,
)
_TEXT: Final = _Form(
    "cmpl",
    "text_completion",
    "text_completion",
    lambda text, logprobs: {"text": text, "logprobs": logprobs},
    lambda text, logprobs: {"text": text, "logprobs": logprobs},
    _text_logprobs,
)


class WrittenAnswers:
    """Answers them with a plane, in its event loop."""

    def __init__(self, plane: Plane, bodies: Bodies, beside: Beside) -> None:
        self._plane = plane
        self._bodies = bodies
        self._beside = beside
        self.endpoints: Mapping[str, Endpoint] = {"chat": self._chat, "complete": self._complete}
        """What answers, by the names of the table of paths."""

    async def _chat(self, request: Request, caller: Caller) -> Told | Streamed:
        asked = await self._read("chat", request)
        prompt = await self._plane.pieces.prompt(*asked.model, asked.messages)
        return await self._answer(_CHAT, asked, prompt, caller)

    async def _complete(self, request: Request, caller: Caller) -> Told | Streamed:
        asked = await self._read("completion", request)
        return await self._answer(_TEXT, asked, asked.prompt, caller)

    async def _read(self, work: str, request: Request) -> Asked:
        told, _ = await self._beside.do(work, {}, await self._bodies.read(request.receive, request.headers))
        return asked_of(told)

    async def _answer(self, form: _Form, asked: Asked, prompt: str, caller: Caller) -> Told | Streamed:
        self._plane.abilities.check_writes(*asked.model)
        answer_id = f"{form.prefix}-{uuid.uuid4().hex}"
        sent = request_of(
            *asked.model,
            prompt,
            asked.parameters,
            streamed=asked.streamed,
            call_id=answer_id,
            priority=asked.priority,
        )
        told = {"id": answer_id, "object": form.part, "created": int(time.time()), "model": asked.named}
        if asked.streamed:
            found = self._plane.pieces.generate(sent, caller)
            first = await anext(found)  # what is wrong is told with a status of its own
            return Streamed(_events(form, asked, told, first, found))
        told["object"] = form.whole
        if asked.logprobs:
            return Told(write_json(await self._with_logprobs(form, told, sent, caller)))
        return Told(write_json(_whole(form, told, await self._plane.call("ModelInfer", sent, caller))))

    async def _with_logprobs(self, form: _Form, told: dict[str, Any], sent: bytes, caller: Caller) -> dict[str, Any]:
        """Return a whole answer of its pieces: those alone say which token has which probability."""
        text, pieces, last = "", [], None
        async with aclosing(self._plane.pieces.generate(sent, caller)) as found:
            async for each in found:
                if isinstance(each, Piece):
                    pieces.append((each, len(text)))
                    text += each.text
                else:
                    last = each
        assert last is not None  # noqa: S101 - or an error was raised
        usage = last.usage or Usage(0, 0, "stop")
        choice = {"index": 0, **form.choice(text, form.logprobs(pieces)), "finish_reason": usage.finish or "stop"}
        return {**told, "choices": [choice], "usage": _usage(usage), **_version(last)}


async def _events(
    form: _Form, asked: Asked, told: dict[str, Any], first: Piece | Answer, rest: AsyncGenerator[Piece | Answer, None]
) -> AsyncGenerator[bytes, None]:
    """Yield an answer as events. One that breaks off in the middle ends with an error in the place of DONE."""
    beside = {"usage": None} if asked.tells_usage else {}
    letters, each = 0, first
    async with aclosing(rest):
        try:
            if form is _CHAT:
                opening = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
                yield _event({**told, "choices": [{**opening, "finish_reason": None}], **beside})
            while isinstance(each, Piece):
                logprobs = form.logprobs([(each, letters)]) if asked.logprobs and each.logprobs else None
                letters += len(each.text)
                if each.text or each.finish or logprobs:
                    choice = {"index": 0, **form.delta(each.text, logprobs), "finish_reason": each.finish or None}
                    yield _event({**told, "choices": [choice], **beside})
                each = await anext(rest)
            if asked.tells_usage:
                usage = _usage(each.usage or Usage(0, 0, ""))
                yield _event({**told, "choices": [], "usage": usage, **_version(each)})
            yield DONE
        except Exception as error:
            yield b"data: " + as_openai(problem_of(error, form.part)).body + b"\n\n"


def _event(told: dict[str, Any]) -> bytes:
    return b"data: " + write_json(told) + b"\n\n"


def _usage(usage: Usage) -> dict[str, int]:
    total = usage.prompt_tokens + usage.answer_tokens
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.answer_tokens, "total_tokens": total}


def _version(answer: Answer) -> dict[str, str]:
    release = answer.version.release
    return {
        "system_fingerprint": _fingerprint(str(release.ordinal), release.variant),
        "prediction_id": answer.prediction_id,
    }


def _fingerprint(ordinal: str, variant: str) -> str:
    return f"{ordinal}-{variant}"


def _whole(form: _Form, told: dict[str, Any], answer: bytes) -> dict[str, Any]:
    """Return a whole answer of a serialised ModelInferResponse."""
    message = oip.ModelInferResponse.FromString(answer)
    found = {
        each.name: decode_output(OutputTensor(each.name, each.datatype, tuple(each.shape), raw))[0]
        for each, raw in zip(message.outputs, list(message.raw_output_contents), strict=True)
    }
    texts = {name: value.decode() for name, value in found.items() if isinstance(value, bytes)}
    usage = Usage(found[generation.INPUT_TOKENS], found[generation.OUTPUT_TOKENS], texts[generation.FINISH_REASON])
    choice = {"index": 0, **form.choice(texts[generation.TEXT_OUTPUT], None), "finish_reason": usage.finish}
    fingerprint = _fingerprint(message.model_version, message.parameters["variant"].string_param)
    return {
        **told,
        "choices": [choice],
        "usage": _usage(usage),
        "system_fingerprint": fingerprint,
        "prediction_id": message.parameters["prediction_id"].string_param,
    }
