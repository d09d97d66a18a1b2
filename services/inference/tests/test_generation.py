"""What a call of a model of language may say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from headrace_engines.generator import Message, Piece, Sampling
from headrace_inference.core import generation
from headrace_inference.core.generation import Ask, Bounds, Usage, Whole
from headrace_inference.core.signature import Call
from headrace_inference.core.tensors import InputTensor, OutputTensor, decode_output, encode_raw
from headrace_runtime.errors import InvalidInput

BOUNDS = Bounds(prompt_tokens=10, answer_tokens=100)


def sampling(**given: Any) -> Sampling:
    return generation.sampling_of(json.dumps(given), BOUNDS)


def test_nothing_said_is_greedy_and_bounded() -> None:
    assert generation.sampling_of("", BOUNDS) == Sampling(max_tokens=100)
    assert generation.sampling_of("{}", Bounds()) == Sampling(max_tokens=generation.DEFAULT_TOKENS)


def test_every_parameter_of_vllm_is_read() -> None:
    read = sampling(
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=-1,
        seed=2**32 - 1,
        stop="\n",
        presence_penalty=1,
        frequency_penalty=-1.5,
        logprobs=1,
        guided_json={"type": "object"},
    )
    assert read == Sampling(7, 0.5, 0.9, 0, 2**32 - 1, ("\n",), '{"type": "object"}', True, -1.5, 1)


def test_texts_stand_for_numbers_as_clients_of_triton_send_them() -> None:
    read = sampling(max_tokens="7", temperature="0.5", seed="4294967295", stop=["a", "b"])
    assert read == Sampling(7, 0.5, seed=4294967295, stop=("a", "b"))


@pytest.mark.parametrize("name", ["guided_decoding", "structured_outputs"])
def test_a_schema_may_come_as_newer_ones_of_vllm_have_it(name: str) -> None:
    assert sampling(**{name: {"json": '{"type": "object"}'}}).json_schema == '{"type": "object"}'


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[1]", "expected a JSON object, got '[1]'"),
        ("{", "expected a JSON object, got '{'"),
        ("[" * 10_000, "expected a JSON object"),
        ('{"max_token": 1}', "expected names among frequency_penalty, .*, got ['max_token']"),
        ('{"max_tokens": 101}', "max_tokens: expected at most 100, got 101"),
        ('{"max_tokens": 0}', "max_tokens: expected 1 to 1000000, got 0"),
        ('{"max_tokens": 1.5}', "max_tokens: expected a whole number, got 1.5"),
        ('{"max_tokens": 1e999}', "max_tokens: expected a whole number, got inf"),
        ('{"max_tokens": true}', "max_tokens: expected a number, got True"),
        ('{"temperature": "warm"}', "temperature: expected a number"),
        ('{"temperature": NaN}', "temperature: expected 0.0 to 2.0, got nan"),
        ('{"top_p": 2, "top_k": -5}', "top_p: expected .* got 2; top_k: expected .* got -5"),
        ('{"seed": -1}', "seed: expected 0 to"),
        ('{"stop": [1]}', "stop: expected a text or a list of texts, got [1]"),
        ('{"stop": [""]}', "stop: expected at most 16 texts"),
        ('{"logprobs": 5}', "logprobs: expected 0 or 1"),
        ('{"guided_json": "["}', "guided_json: expected a JSON schema"),
        ('{"guided_json": [1]}', "guided_json: expected a JSON schema, got [1]"),
        ('{"guided_decoding": {"regex": "(a+)+"}}', "guided_decoding: expected an object with json alone"),
    ],
)
def test_what_is_wrong_is_named(given: str, told: str) -> None:
    pattern = "sampling_parameters: " + told.replace("[", r"\[").replace("(", r"\(")
    with pytest.raises(InvalidInput, match=pattern):
        generation.sampling_of(given, BOUNDS)


def test_a_long_prompt_is_refused_before_it_is_made_tokens() -> None:
    with pytest.raises(InvalidInput, match="text_input': expected at most 10 tokens, got 161 bytes"):
        generation.ask_of(arrays("a" * 161), BOUNDS)


def test_a_conversation_is_json() -> None:
    turns = '[{"role": "system", "content": "be brief"}, {"role": "user", "content": "who?"}]'
    assert generation.messages_of(turns) == [Message("system", "be brief"), Message("user", "who?")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("who?", "expected a JSON array of messages"),
        ("[" * 10_000, "expected a JSON array of messages"),
        ("[]", "expected 1 to 4096 messages"),
        ('[{"role": "user"}]', "expected 1 to 4096 messages, each with role and content alone, got"),
        ('[{"role": "tool", "content": ""}]', "message 0: expected a role among system, user, assistant and a text"),
        ('[{"role": "user", "content": 1}]', "message 0: expected a role among"),
        ('[{"role": [], "content": ""}]', "message 0: expected a role among"),
    ],
)
def test_what_is_no_conversation_is_told(given: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=f"input 'text_input': {told}"):
        generation.messages_of(given)


def test_what_is_left_out_is_one_whole_answer() -> None:
    ask = generation.ask_of(arrays("a"), BOUNDS)
    assert not ask.streamed
    assert ask.repeats


def test_equal_answers_have_equal_keys_however_they_were_asked_for() -> None:
    greedy = [
        Ask("a", each, streamed) for streamed in (True, False) for each in (sampling(), sampling(seed=1, top_k=3))
    ]
    assert len({str(each.key) for each in greedy}) == 1
    others = [Ask("a", sampling(stop="x"), False), Ask("b", sampling(), False), Ask("a", sampling(logprobs=1), False)]
    assert len({str(each.key) for each in (*greedy, *others)}) == 4
    assert not Ask("a", sampling(temperature=0.1), False).repeats


def test_a_whole_answer_is_its_pieces() -> None:
    whole = Whole(prompt_tokens=3)
    for piece in (Piece("Ab", (1, 2), (-0.5, -0.25)), Piece("", (3,), (-1.0,)), Piece("c", (4,), (-2.0,), "stop")):
        whole.add(piece)
    assert whole.usage == Usage(3, 4, "stop")
    signature = generation.signature()
    told = [
        decode_output(encoded(name, array))[0]
        for name, array in zip(signature.output_names, whole.outputs(signature.output_names), strict=True)
    ]
    assert told == [b"Abc", b"stop", 3, 4, b"[-0.5, -0.25, -1.0, -2.0]"]


def encoded(name: str, array: Any) -> OutputTensor:
    datatype = generation.signature().output(name).datatype
    return OutputTensor(name, datatype.name, array.shape, encode_raw(array, datatype))


def arrays(prompt: str) -> dict[str, Any]:
    text = InputTensor(generation.TEXT_INPUT, "BYTES", (1,), [("bytes_contents", [prompt.encode()])])
    found = generation.signature().arrays(Call("lm", "", "", [text], [], []))
    assert found[generation.STREAM].dtype == np.bool_
    return found
