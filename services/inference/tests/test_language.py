"""A released GGUF, served by the real engine: a model of language of a few thousand random weights."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from headrace import open_inference as oip
from headrace_engines.generator import Message, Piece
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.adapters.language import Language
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core import metrics
from headrace_inference.core.asked import Answer
from headrace_inference.core.generation import Ask, Bounds, parameters_of, sampling_of
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.pieces import request_of
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.predictor import Predictor
from headrace_runtime.cache.redis_cache import Lookup, Outcome
from headrace_runtime.errors import DeadlineExceeded, InvalidInput, Overloaded
from headrace_runtime.rpc.admission import Capacity
from opentelemetry import trace
from opentelemetry.context import Context as Cause
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

MakeRelease = Callable[..., Release]
PROMPT = "the river turns the wheel and"
"""What the model goes on with, at temperature 0, never comes to an end by itself."""


def text_of(answer: Any) -> str:
    return str(answer.raw_output_contents[0][4:].decode())


def is_final(told: Any) -> bool:
    return bool(told.infer_response.parameters["triton_final_response"].bool_param)


def streamed(prompt: str = PROMPT, **sampling: Any) -> bytes:
    return request_of("words", "", prompt, parameters_of(**sampling), streamed=True, call_id="1")


def whole(call: Any) -> list[Any]:
    """Return the answers of a call up to its last, and leave its stream."""
    found = []
    for told in call:
        found.append(told)
        if told.error_message or is_final(told):
            break
    call.cancel()
    return found


def test_an_answer_is_told_whole_whichever_way_it_was_given(replica: Any) -> None:
    replica.log.seen.clear()
    expected = replica.infer(PROMPT, max_tokens=12)
    pieces = whole(replica.stream(streamed(max_tokens=12)))
    assert len(pieces) > 6
    assert "".join(text_of(each.infer_response) for each in pieces) == expected
    replica.until(lambda: len(replica.log.seen) == 2)
    for served in replica.log.seen:
        assert text_of(oip.ModelInferResponse.FromString(served.answer)) == expected
        asked = oip.ModelInferRequest.FromString(served.request)
        assert [each.name for each in asked.inputs] == ["text_input", "sampling_parameters", "stream"]


def test_a_caller_that_leaves_frees_its_place_and_tells_nothing(replica: Any) -> None:
    replica.log.seen.clear()
    call = replica.stream(streamed(max_tokens=1000))  # which take a second
    next(call)
    call.cancel()
    replica.until(lambda: replica.generator.load().running == 0)
    assert not replica.log.seen


def test_a_deadline_ends_an_answer_in_its_middle(replica: Any) -> None:
    request = oip.ModelInferRequest.FromString(streamed(max_tokens=1000))
    request.parameters["timeout"].int64_param = 50_000
    *pieces, last = whole(replica.stream(request.SerializeToString()))
    assert "the answer was not whole after 0.0" in last.error_message
    assert not any(map(is_final, pieces))
    replica.until(lambda: replica.generator.load().running == 0)


def test_an_engine_that_is_killed_ends_no_answer_that_looks_whole(replica: Any) -> None:
    replica.log.seen.clear()
    faults = metrics.of_language("words").faults._value.get()
    call = replica.stream(streamed(max_tokens=1000))
    next(call)
    killed = replica.generator.pid
    os.kill(killed, signal.SIGKILL)
    *pieces, last = whole(call)
    assert not any(map(is_final, pieces))
    assert "SIGKILL" in last.error_message
    assert not replica.log.seen
    replica.until(lambda: replica.generator.pid not in (None, killed))
    assert replica.infer(PROMPT, max_tokens=3)
    assert metrics.of_language("words").faults._value.get() == faults + 1


def test_answers_end_on_the_version_that_they_began_with(replica: Any) -> None:
    expected = [replica.infer(PROMPT, max_tokens=200)]
    held = replica.stream(streamed(max_tokens=200))
    first = next(held)
    engines = [replica.generator.pid]
    replica.release(1)
    engines.append(replica.generator.pid)
    assert replica.infer(PROMPT, max_tokens=200) not in expected
    pieces = [first, *whole(held)]
    assert "".join(text_of(each.infer_response) for each in pieces) == expected[0]
    assert {each.infer_response.model_version for each in pieces} == {"1"}
    replica.until(lambda: [psutil.pid_exists(each) for each in engines] == [False, True])


def test_guidance_and_logprobs_come_with_the_answer(replica: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"], "additionalProperties": False}
    assert json.loads(replica.infer(PROMPT, max_tokens=60, guided_json=schema)) == {"a": "b"}
    pieces = whole(replica.stream(streamed(max_tokens=5, logprobs=1)))
    told = [json.loads(each.infer_response.raw_output_contents[4][4:] or b"[]") for each in pieces]
    assert sum(map(len, told)) == 5


class Memory:
    """A cache as the adapter of Redis behaves, in a dictionary."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    async def get(self, key: bytes) -> Lookup:
        value = self.values.get(key)
        return Lookup(Outcome.MISS if value is None else Outcome.HIT, value)

    def put(self, key: bytes, value: bytes, _ttl_s: float | None = None) -> None:
        self.values[key] = value


class Caller:
    """What a transport would tell of a call."""

    def time_remaining(self) -> float | None:
        return None

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody asks for it here."""


class World:
    """A plane over the language model of a replica, with a cache in sight."""

    def __init__(self, replica: Any, make_release: MakeRelease, bounds: Bounds, answers: int = 8) -> None:
        self.language = Language(replica.generator, bounds, Capacity(answers + 1, 10.0), answers, token_s=0.01)
        release = make_release(model="words", cache=CachePolicy.REDIS)
        loaded = LoadedVersion(release, replica.loaded.model, replica.loaded.speed, b"", language=self.language)
        shelf, self.memory = Shelf(), Memory()
        shelf.put(loaded)
        hot: Any = HotPredictions(self.memory)  # type: ignore[arg-type]
        self.compute = Compute(1, Capacity(calls=2, wait_s=60.0))
        self.plane = Plane(shelf, Predictor(shelf, hot, self.compute, NoLog()))

    async def generate(self, request: bytes) -> list[Piece | Answer]:
        async with aclosing(self.plane.pieces.generate(request, Caller())) as found:
            return [each async for each in found]

    def ask(self, **sampling: Any) -> tuple[str, Answer]:
        *pieces, answer = asyncio.run(self.generate(streamed(**sampling)))
        assert isinstance(answer, Answer)
        return "".join(each.text for each in pieces if isinstance(each, Piece)), answer


@pytest.fixture
def world(replica: Any, make_release: MakeRelease) -> Iterator[World]:
    world = World(replica, make_release, Bounds(seconds=30.0))
    yield world
    world.compute.close()


def test_only_what_repeats_is_kept(world: World) -> None:
    text, first = world.ask(max_tokens=8)
    again, second = world.ask(max_tokens=8, seed=5)
    assert (again, first.cached, second.cached) == (text, False, True)
    assert first.usage == second.usage
    assert first.usage is not None
    assert (first.usage.answer_tokens, first.usage.finish) == (8, "length")
    for _ in range(2):
        assert not world.ask(max_tokens=8, temperature=1.0)[1].cached
    assert len(world.memory.values) == 1


def test_a_conversation_becomes_a_prompt(world: World) -> None:
    prompt = asyncio.run(world.plane.pieces.prompt("words", "", [Message("user", "who?")]))
    assert prompt == "<|im_start|>user\nwho?<|im_end|>\n<|im_start|>assistant\n"
    with pytest.raises(InvalidInput, match="messages: expected 1 to"):
        asyncio.run(world.plane.pieces.prompt("words", "", []))


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (streamed("the river " * 2000), "text_input': expected at most 1000 tokens, got 20000 bytes"),
        (streamed("mill" * 3000), "model 'words': .*"),
        (streamed(max_tokens=2000), "max_tokens: expected at most 500, got 2000"),
    ],
)
def test_prompts_and_answers_are_bounded(replica: Any, make_release: MakeRelease, request_: bytes, told: str) -> None:
    world = World(replica, make_release, Bounds(prompt_tokens=1000, answer_tokens=500))
    with pytest.raises(InvalidInput, match=told):
        asyncio.run(world.generate(request_))
    world.compute.close()


def ask_for(tokens: int) -> Ask:
    return Ask(PROMPT, sampling_of(parameters_of(max_tokens=tokens), Bounds()), streamed=True)


async def begun(language: Language, ask: Ask) -> AsyncIterator[Piece]:
    async with language.answering("words", ask, 100, None) as answer:
        async for piece in answer:
            yield piece


def test_what_could_not_be_whole_in_time_is_refused_with_the_reason(replica: Any, make_release: MakeRelease) -> None:
    language = World(replica, make_release, Bounds(seconds=2.0)).language

    async def crowd() -> None:
        # An idle engine takes every call: only its answers can correct a prediction, here of 2.4 s.
        first = begun(language, ask_for(240))
        await anext(first)
        with pytest.raises(
            Overloaded, match=r"1 answers are made or wait, .* be whole after 2\.\d+ s of 2 s"
        ) as caught:
            language.check("words", ask_for(240), 100, None)
        assert caught.value.wait_s > 0
        language.check("words", ask_for(20), 100, None)
        with pytest.raises(Overloaded, match=r"of 0\.1 s"):
            language.check("words", ask_for(20), 100, 0.1)
        await first.aclose()  # type: ignore[attr-defined]
        language.check("words", ask_for(240), 100, None)

    asyncio.run(crowd())


def test_no_more_wait_than_may(replica: Any, make_release: MakeRelease) -> None:
    language = World(replica, make_release, Bounds(), answers=2).language

    async def crowd() -> None:
        begins = [begun(language, ask_for(200)) for _ in range(3)]
        for each in begins[:2]:
            await anext(each)
        third = asyncio.ensure_future(anext(begins[2]))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            language.check("words", ask_for(1), 100, None)
        assert language.strain(None) >= 1
        for each in begins[:2]:
            await each.aclose()  # type: ignore[attr-defined]
        assert await third
        await begins[2].aclose()  # type: ignore[attr-defined]

    asyncio.run(crowd())


def test_who_waits_is_answered_by_priority_and_then_by_arrival(replica: Any, make_release: MakeRelease) -> None:
    language = World(replica, make_release, Bounds(seconds=30.0), answers=1).language
    language._admission._capacity, language.token_s = Capacity(100, 10.0), 1e-6
    ended: list[str] = []

    async def call(name: str, priority: int, seconds: float | None = None) -> None:
        ask = replace(ask_for(2), priority=priority)
        try:
            async with language.answering("words", ask, 100, seconds) as answer:
                assert [piece async for piece in answer]
        except DeadlineExceeded:
            name += " late"
        ended.append(name)

    async def crowd() -> None:
        first = begun(language, ask_for(1000))
        await anext(first)
        named = [("c", 3), ("e", 5), ("d", 3), ("b", 2), ("a", 1)]
        calls = [asyncio.create_task(call(*each)) for each in named]
        gone = asyncio.create_task(call("gone", 1))
        short = asyncio.create_task(call("short", 4, 0.05))
        await asyncio.sleep(0)
        gone.cancel()
        await short
        await first.aclose()  # type: ignore[attr-defined]
        await asyncio.gather(*calls)

    asyncio.run(crowd())
    assert ended == ["short late", *"abcde"]
    assert (language._begun, len(language._turns), language._admission.calls) == (0, 0, 0)


def test_a_file_that_the_engine_does_not_know_is_refused_with_the_reason(replica: Any) -> None:
    kept = replica._store.put(b"GGUF" + bytes(64))
    replica.epoch += 1
    release = replica._make_release(
        model="words", epoch=replica.epoch, graph=Graph(kept.uri, kept.digest, kept.size_bytes), ordinal=99
    )
    replica.loader.announce(release, Cause())
    replica.until(lambda: bool(replica.shelf.failing))
    assert "graph: " in replica.shelf.failing[0].reason
    assert replica.infer(PROMPT, max_tokens=2)


def test_an_answer_is_a_span_by_the_conventions(replica: Any) -> None:
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    method: Any = replica.channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
    request = request_of("words", "", PROMPT, parameters_of(max_tokens=3, stop=["~"]), streamed=False)
    method(request, timeout=30, metadata=(("traceparent", parent),))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    written, called = spans["text_completion words"], spans["inference.GRPCInferenceService/ModelInfer"]
    assert written.parent is not None
    assert written.parent.span_id == called.context.span_id
    told = dict(written.attributes or {})
    assert told.pop("gen_ai.response.time_to_first_chunk")
    assert told.pop("gen_ai.usage.input_tokens")
    assert told == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "headrace",
        "gen_ai.request.model": "words",
        "gen_ai.request.stream": False,
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 0,
        "gen_ai.request.stop_sequences": ("~",),
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ("length",),
    }
