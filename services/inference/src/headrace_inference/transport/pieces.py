"""Answers piece by piece: what a model of language writes, as Triton's decoupled models send it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from headrace import open_inference as oip
from headrace_engines.generator import LENGTH, STOP, Message, Piece
from headrace_runtime.errors import InvalidInput, Unavailable

from headrace_inference.core import generation
from headrace_inference.core.asked import Answer, Asked
from headrace_inference.core.serving import TRIES, Serving
from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.core.signature import Call
from headrace_inference.core.tensors import BOOL, BYTES, OutputTensor, encode_raw
from headrace_inference.ports import CallContext
from headrace_inference.transport import converters, wire

FINAL_ASKED = "triton_enable_empty_final_response"
"""Parameter of a call that wants to be told which answer is its last, by one of its own where there are several."""

Open = Callable[[bytes, Asked], Call]
"""Returns the call of a serialised request."""
Send = Callable[[bytes, Asked, Call, Answer], bytes]
"""Tells of an answer, and returns the message that it is."""


class Pieces:
    """Answers calls of models of language. Used in one event loop."""

    def __init__(self, shelf: Shelf, serving: Serving, opened: Open, sent: Send) -> None:
        self._shelf = shelf
        self._serving = serving
        self._open = opened
        self._sent = sent

    def takes(self, request: bytes) -> bool:
        """Return whether a serialised ModelInferRequest asks a model of language."""
        name, _ = wire.leading_texts(request)
        if not name:
            try:
                name = converters.parse("ModelInfer", request).model_name
            except InvalidInput:
                return False
        versions = self._shelf.models.get(name)
        return versions is not None and any(each.language is not None for each in versions.all)

    async def prompt(self, name: str, version_name: str, messages: Sequence[Message]) -> str:
        """Return the prompt for a conversation by the chat template of a model.

        Raises InvalidInput where it has none, or is no model of language, and what looking for it raises.
        """
        for _ in range(TRIES):
            language = self._shelf.resolve(name, version_name).language
            if language is None:
                raise InvalidInput(f"model {name!r}: expected a model of language for a conversation")
            if language.hold():
                try:
                    return await language.prompt(name, messages)
                finally:
                    language.let_go()
        raise Unavailable(f"model {name!r} is stopping")

    async def generate(self, request: bytes, context: CallContext) -> AsyncGenerator[Piece | Answer, None]:
        """Yield the pieces of the answer to a serialised ModelInferRequest, then the answer, which was told of.

        The last piece says why it is the last. Raises errors of headrace_runtime.errors, most of them before the first
        piece; what ends without an answer is not whole. Close it (`contextlib.aclosing`): that gives its place up.
        """
        asked = Asked(len(request), context, time.perf_counter())
        try:
            call = self._open(request, asked)
        except BaseException as error:
            self._serving.count_failure(asked, error)
            raise
        async with aclosing(self._generate(request, asked, call)) as found:
            async for each in found:
                yield each

    async def stream(self, request: bytes, context: CallContext) -> AsyncGenerator[bytes, None]:
        """Yield a serialised ModelInferResponse for each piece of an answer; one for all of it where the call says so.

        The last one has the parameter `triton_final_response`: an empty one where the call asks for that.
        """
        asked = Asked(len(request), context, time.perf_counter())
        try:
            call = self._open(request, asked)
            asks_end = wants_final(request)
        except BaseException as error:
            self._serving.count_failure(asked, error)
            raise
        async with aclosing(self._generate(request, asked, call)) as found:
            async for each in found:
                assert asked.version is not None and asked.ask is not None  # noqa: S101, PT018 - read before
                if isinstance(each, Piece):
                    if asked.ask.streamed:
                        told = converters.final_part(final=bool(each.finish) and not asks_end)
                        yield _message(asked.version, call, each, asked.prompt_tokens) + told
                    continue
                if not asked.ask.streamed:
                    yield each.sent + converters.final_part(final=not asks_end)
                if asks_end:
                    suffix = converters.answer_suffix(call.id, each.prediction_id, cached=each.cached)
                    yield asked.version.prefix + suffix + converters.final_part(final=True)

    async def _generate(self, request: bytes, asked: Asked, call: Call) -> AsyncGenerator[Piece | Answer, None]:
        told = False
        try:
            async with aclosing(self._serving.generate(asked, call)) as found:
                async for each in found:
                    if isinstance(each, Answer):
                        if each.cached:
                            kept, each.usage = _kept(each.outputs)
                            yield kept
                        each.sent = self._sent(request, asked, call, each)
                        told = True
                    yield each
        except BaseException as error:
            if not told:
                self._serving.count_failure(asked, error)
            raise


def request_of(
    model: str, version: str, prompt: str, parameters: str, *, streamed: bool, call_id: str = "", priority: int = 0
) -> bytes:
    """Return a serialised ModelInferRequest to a model of language; `parameters` as `sampling_parameters` has them."""
    request = oip.ModelInferRequest(model_name=model, model_version=version, id=call_id)
    for name, value in ((generation.TEXT_INPUT, prompt), (generation.SAMPLING, parameters)):
        request.inputs.add(name=name, datatype=BYTES.name, shape=[1])
        request.raw_input_contents.append(encode_raw(generation.texts(value), BYTES))
    request.inputs.add(name=generation.STREAM, datatype=BOOL.name, shape=[1])
    request.raw_input_contents.append(bytes([streamed]))
    if priority:
        request.parameters[converters.PRIORITY].uint64_param = priority
    return bytes(request.SerializeToString())


def wants_final(request: bytes) -> bool:
    """Return whether a serialised ModelInferRequest asks to be told which answer is its last."""
    if FINAL_ASKED.encode() not in request:
        return False
    parameters = converters.parse("ModelInfer", request).parameters
    return FINAL_ASKED in parameters and bool(parameters[FINAL_ASKED].bool_param)


def _kept(part: bytes) -> tuple[Piece, generation.Usage]:
    """Return an answer that was kept as the one piece of it, and what it took."""
    texts, numbers = converters.texts_of(part), converters.numbers_of(part)
    length = texts.get(generation.FINISH_REASON) == LENGTH
    piece = Piece(texts.get(generation.TEXT_OUTPUT, ""), finish=LENGTH if length else STOP)
    prompt_tokens, answer_tokens = (
        numbers.get(name, 0) for name in (generation.INPUT_TOKENS, generation.OUTPUT_TOKENS)
    )
    return piece, generation.Usage(prompt_tokens, answer_tokens, piece.finish)


def _message(version: LoadedVersion, call: Call, piece: Piece, prompt_tokens: int) -> bytes:
    signature = version.model.signature
    names = signature.requested(call.outputs)
    usage = generation.Usage(prompt_tokens, len(piece.tokens), piece.finish)
    part = converters.outputs_part(
        OutputTensor(name, datatype.name, array.shape, encode_raw(array, datatype))
        for name, array in zip(names, generation.outputs_of(piece, usage, names), strict=True)
        for datatype in (signature.output(name).datatype,)
    )
    suffix = converters.piece_suffix(call.id)
    return version.prefix + (part if call.raws else converters.as_typed(part)) + suffix
