"""What a model of language takes and gives, in the words of Triton's vLLM backend, and whether a call fits it.

`text_input` is the prompt; `sampling_parameters` is JSON that says how tokens are chosen; with `stream` the answer
comes piece by piece. See https://github.com/triton-inference-server/vllm_backend.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from headrace_engines.errors import Unanswerable
from headrace_engines.generator import Message, Piece, Sampling
from headrace_runtime.errors import InvalidInput
from headrace_runtime.priorities import NORMAL

from headrace_inference.core.signature import Signature, TensorSpec
from headrace_inference.core.tensors import BOOL, BYTES, DATATYPES, Array

TEXT_INPUT: Final = "text_input"
STREAM: Final = "stream"
SAMPLING: Final = "sampling_parameters"
TEXT_OUTPUT: Final = "text_output"
FINISH_REASON: Final = "finish_reason"
INPUT_TOKENS: Final = "num_input_tokens"
OUTPUT_TOKENS: Final = "num_output_tokens"
LOGPROBS: Final = "logprobs"

DEFAULT_TOKENS: Final = 256
"""Most tokens of an answer whose caller says nothing about it."""
_MOST_TOKEN_BYTES: Final = 16
"""Bytes of a text for each token that it may have: one with more is refused before its tokens are counted."""
_MOST_PARAMETER_BYTES: Final = 64 * 1024
_MOST_MESSAGES: Final = 4096
_ROLES: Final = ("system", "user", "assistant")
_UINT32: Final = DATATYPES["UINT32"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one call may ask for."""

    prompt_tokens: int = 4096
    answer_tokens: int = 1024
    seconds: float = 120.0
    """How long an answer may take."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took, and why it ended: `stop`, at the model's own end or a stop text, or `length`."""

    prompt_tokens: int
    answer_tokens: int
    finish: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A call that was found to fit."""

    prompt: str
    sampling: Sampling
    streamed: bool
    """Whether the answer is wanted piece by piece."""
    priority: int = NORMAL

    @property
    def repeats(self) -> bool:
        """Whether the same call has the same answer each time."""
        return self.sampling.temperature == 0

    @property
    def key(self) -> dict[str, Array]:
        """What decides an answer that repeats, as arrays by name: however the JSON was written."""
        asked = replace(self.sampling, temperature=0.0, top_p=1.0, top_k=0, seed=None)
        return {TEXT_INPUT: texts(self.prompt), SAMPLING: texts(repr(asked))}


def signature() -> Signature:
    """Return what every model of language takes and gives."""
    inputs = [
        TensorSpec(TEXT_INPUT, BYTES, (1,)),
        TensorSpec(STREAM, BOOL, (1,), optional=True),
        TensorSpec(SAMPLING, BYTES, (1,), optional=True),
    ]
    outputs = [
        TensorSpec(TEXT_OUTPUT, BYTES, (1,)),
        TensorSpec(FINISH_REASON, BYTES, (1,)),
        TensorSpec(INPUT_TOKENS, _UINT32, (1,)),
        TensorSpec(OUTPUT_TOKENS, _UINT32, (1,)),
        TensorSpec(LOGPROBS, BYTES, (1,)),
    ]
    return Signature(inputs, outputs, max_rows=1)


def ask_of(arrays: Mapping[str, Array], bounds: Bounds, priority: int = NORMAL) -> Ask:
    """Return what a call asks for, of arrays that fit the signature.

    Raises InvalidInput that names a parameter, what was expected and what came.
    """
    prompt = str(arrays[TEXT_INPUT][0])
    if (size := len(prompt.encode())) > bounds.prompt_tokens * _MOST_TOKEN_BYTES:
        raise InvalidInput(f"input {TEXT_INPUT!r}: expected at most {bounds.prompt_tokens} tokens, got {size} bytes")
    return Ask(prompt, sampling_of(str(arrays[SAMPLING][0]), bounds), bool(arrays[STREAM][0]), priority)


def sampling_of(parameters: str, bounds: Bounds) -> Sampling:
    """Return how tokens are chosen, as JSON says it; greedy where it says nothing. Raises as `ask_of` does."""
    given = _read(parameters)
    unknown = sorted(given.keys() - _PARAMETERS.keys())
    if unknown:
        raise InvalidInput(f"{SAMPLING}: expected names among {', '.join(sorted(_PARAMETERS))}, got {unknown}")
    fields: dict[str, Any] = {"max_tokens": min(DEFAULT_TOKENS, bounds.answer_tokens)}
    for name, value in given.items():
        field, read = _PARAMETERS[name]
        if value is not None:
            fields[field] = read(name, value)
    if fields["max_tokens"] > bounds.answer_tokens:
        got = fields["max_tokens"]
        raise InvalidInput(f"{SAMPLING}: max_tokens: expected at most {bounds.answer_tokens}, got {got}")
    try:
        return Sampling(**fields)
    except Unanswerable as error:
        raise InvalidInput(f"{SAMPLING}: {error}") from error


def messages_of(conversation: str) -> list[Message]:
    """Return the turns of a conversation, a JSON array of objects with `role` and `content`. Raises InvalidInput."""
    try:
        given = json.loads(conversation)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"input {TEXT_INPUT!r}: expected a JSON array of messages: {error}") from error
    fits = isinstance(given, list) and 0 < len(given) <= _MOST_MESSAGES
    if not fits or not all(isinstance(each, dict) and each.keys() == {"role", "content"} for each in given):
        wanted = f"1 to {_MOST_MESSAGES} messages, each with role and content alone"
        raise InvalidInput(f"input {TEXT_INPUT!r}: expected {wanted}, got {conversation[:64]!r}")
    for place, each in enumerate(given):
        if each["role"] not in _ROLES or not isinstance(each["content"], str):
            wanted = f"a role among {', '.join(_ROLES)} and a text"
            raise InvalidInput(f"input {TEXT_INPUT!r}: message {place}: expected {wanted}, got {each!r:.64}")
    return [Message(each["role"], each["content"]) for each in given]


def parameters_of(**given: object) -> str:
    """Return parameters as the JSON that `sampling_of` reads; None leaves one out."""
    return json.dumps({name: value for name, value in given.items() if value is not None})


def _read(parameters: str) -> dict[str, Any]:
    if not parameters:
        return {}
    if len(parameters) > _MOST_PARAMETER_BYTES:
        raise InvalidInput(f"{SAMPLING}: expected at most {_MOST_PARAMETER_BYTES} letters, got {len(parameters)}")
    try:
        given = json.loads(parameters)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{SAMPLING}: expected a JSON object, got {parameters[:64]!r}: {error}") from error
    if not isinstance(given, dict):
        raise InvalidInput(f"{SAMPLING}: expected a JSON object, got {parameters[:64]!r}")
    return given


def _number(name: str, value: object) -> float:
    # Clients of Triton send every parameter as a text.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            value = repr(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise _wrong(name, "a number", value)


def _whole(name: str, value: object) -> int:
    if (number := _number(name, value)) != number or abs(number) > 2**63 or number != int(number):
        raise _wrong(name, "a whole number", value)
    # A float has 53 bits, fewer than a seed.
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdigit()) else int(number)


def _top_k(name: str, value: object) -> int:
    return max(0, number) if (number := _whole(name, value)) == -1 else number


def _stops(name: str, value: object) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise _wrong(name, "a text or a list of texts", value)
    return tuple(found)


def _logprobs(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if (most := _whole(name, value)) not in {0, 1}:
        raise _wrong(name, "0 or 1: those of the tokens that were chosen", value)
    return most == 1


def _schema(name: str, value: object) -> str:
    """Return a JSON schema, which comes as one or as its text."""
    try:
        schema = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{SAMPLING}: {name}: expected a JSON schema, got {value!r:.64}: {error}") from error
    if not isinstance(schema, dict):
        raise _wrong(name, "a JSON schema", value)
    return json.dumps(schema)


def _guidance(name: str, value: object) -> str:
    """Return the schema of vLLM's `guided_decoding` and `structured_outputs`, of which nothing else is known here."""
    if not isinstance(value, dict) or value.keys() != {"json"}:
        raise _wrong(name, "an object with json alone", value)
    return _schema(f"{name}.json", value["json"])


def _wrong(name: str, expected: str, got: object) -> InvalidInput:
    return InvalidInput(f"{SAMPLING}: {name}: expected {expected}, got {got!r:.64}")


_PARAMETERS: Final[Mapping[str, tuple[str, Callable[[str, Any], Any]]]] = {
    "max_tokens": ("max_tokens", _whole),
    "temperature": ("temperature", _number),
    "top_p": ("top_p", _number),
    "top_k": ("top_k", _top_k),
    "seed": ("seed", _whole),
    "stop": ("stop", _stops),
    "presence_penalty": ("presence_penalty", _number),
    "frequency_penalty": ("frequency_penalty", _number),
    "logprobs": ("logprobs", _logprobs),
    "guided_json": ("json_schema", _schema),
    "guided_decoding": ("json_schema", _guidance),
    "structured_outputs": ("json_schema", _guidance),
}
"""Parameters by the names of vLLM: the field of `Sampling`, and what reads its value."""


class Whole:
    """An answer, put together from its pieces."""

    def __init__(self, prompt_tokens: int = 0) -> None:
        self.prompt_tokens = prompt_tokens
        self._texts: list[str] = []
        self._logprobs: list[float] = []
        self._tokens = 0
        self._finish = ""

    def add(self, piece: Piece) -> None:
        """Add the next piece."""
        self._texts.append(piece.text)
        self._logprobs += piece.logprobs
        self._tokens += len(piece.tokens)
        self._finish = piece.finish

    @property
    def usage(self) -> Usage:
        """What it took so far."""
        return Usage(self.prompt_tokens, self._tokens, self._finish)

    def outputs(self, names: tuple[str, ...]) -> list[Array]:
        """Return the outputs named, in that order."""
        piece = Piece("".join(self._texts), logprobs=tuple(self._logprobs))
        return outputs_of(piece, self.usage, names)


def outputs_of(piece: Piece, usage: Usage, names: tuple[str, ...]) -> list[Array]:
    """Return the outputs named, in that order, of a piece or a whole answer with its tokens counted."""
    found: dict[str, Callable[[], Array]] = {
        TEXT_OUTPUT: lambda: texts(piece.text),
        FINISH_REASON: lambda: texts(usage.finish),
        INPUT_TOKENS: lambda: np.array([usage.prompt_tokens], _UINT32.dtype),
        OUTPUT_TOKENS: lambda: np.array([usage.answer_tokens], _UINT32.dtype),
        LOGPROBS: lambda: texts(json.dumps(piece.logprobs) if piece.logprobs else ""),
    }
    return [found[name]() for name in names]


def texts(text: str) -> Array:
    """Return a text as an array of one."""
    return np.array([text], object)
