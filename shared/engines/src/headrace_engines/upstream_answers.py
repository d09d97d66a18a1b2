"""What another server is asked for an answer, and the pieces of an answer in the events that it sends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final

from headrace_engines.errors import Busy, EngineDied, EngineError, Unanswerable
from headrace_engines.generator import LENGTH, STOP, EngineLoad, Finish, Piece, Sampling

UNNAMED: Final = -1
"""The token in a piece of a server that counts tokens and does not name them."""
_RUNNING: Final = "vllm:num_requests_running"
_WAITING: Final = "vllm:num_requests_waiting"
_CACHE: Final = "vllm:kv_cache_usage_perc"
_FINISHES: Final[tuple[Finish, ...]] = (STOP, LENGTH)
_REFUSED, _BUSY = (400, 499), (429, 503)


def asked_of(model: str, prompt: str | list[int], sampling: Sampling, max_tokens: int) -> dict[str, Any]:
    """Return the body of a request: by tokens as vLLM takes it, by a text as anything with OpenAI's completions does.

    vLLM is told each parameter: those that are left out it takes from the model's folder.
    """
    asked: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "stop": list(sampling.stop),
        "seed": sampling.seed,
        "logprobs": 0 if sampling.logprobs else None,
    }
    if isinstance(prompt, str):
        # What is not known there is refused, as it is here.
        asked["top_k"] = sampling.top_k or None
    else:
        asked |= {"top_k": sampling.top_k, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
        if sampling.json_schema is not None:
            asked["structured_outputs"] = {"json": json.loads(sampling.json_schema)}
    return {name: value for name, value in asked.items() if value is not None}


class Answer:
    """One answer, read from events. Raises EngineDied for what cannot be one, and what a server says of an error."""

    def __init__(self, sampling: Sampling, max_tokens: int, *, counts: bool) -> None:
        self._logprobs = sampling.logprobs
        self._most = max_tokens
        self._counts = counts
        """Whether the server names tokens."""
        self._tokens = 0
        self._finish: Finish = ""
        self._end = Piece("")
        self._usage: tuple[int, int] | None = None

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has, once that is known; else 0."""
        return self._usage[0] if self._usage else 0

    def pieces(self, event: dict[str, Any]) -> Iterator[Piece]:
        """Yield what an event adds. The last piece is kept back: it counts when the stream says that it is done."""
        if "error" in event:
            raise _error(event["error"])
        if isinstance(usage := event.get("usage"), dict):
            self._usage = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        choices = event.get("choices")
        if not isinstance(choices, list) or len(choices) > 1:
            raise EngineDied(f"expected one choice, got {choices!r:.64}")
        for choice in choices:
            piece = self._piece(choice)
            if piece.finish:
                self._end = piece
            elif piece.text or piece.tokens:
                yield piece

    def last(self) -> Piece:
        """Return the last piece, of a stream that is done."""
        if not self._finish:
            raise EngineDied("expected a reason why the answer ended, got none")
        end = self._end
        if self._counts or self._usage is None:
            return end
        unnamed = max(0, self._usage[1] - self._tokens + len(end.tokens))
        return Piece(end.text, (UNNAMED,) * unnamed, end.logprobs, end.finish)

    def _piece(self, choice: Any) -> Piece:
        if self._finish or not isinstance(choice, dict) or not isinstance(text := choice.get("text"), str):
            raise EngineDied(f"expected a choice with a text before the last one, got {choice!r:.64}")
        logprobs = self._logprobs_of(choice)
        tokens = self._tokens_of(choice, text, len(logprobs))
        finish = choice.get("finish_reason")
        if finish is not None and finish not in _FINISHES:
            raise EngineDied(f"expected an answer that ends with stop or length, got {finish!r:.64}")
        if self._counts and finish == STOP and not isinstance(choice.get("stop_reason"), str):
            # vLLM tells the token that ends a text, too.
            tokens, logprobs = tokens[:-1], logprobs[: max(0, len(tokens) - 1)]
        self._tokens += len(tokens)
        if self._tokens > self._most:
            raise EngineDied(f"expected at most {self._most} tokens, got more")
        self._finish = finish or ""
        return Piece(text, tokens, logprobs, self._finish)

    def _tokens_of(self, choice: dict[str, Any], text: str, logprobs: int) -> tuple[int, ...]:
        if not self._counts:
            # A piece of text has one token at least; how many it were is told at the end.
            return (UNNAMED,) * (logprobs or bool(text))
        tokens = choice.get("token_ids")
        if not isinstance(tokens, list) or not all(type(each) is int and each >= 0 for each in tokens):
            raise EngineDied(f"expected the tokens of a piece, got {tokens!r:.64}")
        return tuple(tokens)

    def _logprobs_of(self, choice: dict[str, Any]) -> tuple[float, ...]:
        if not self._logprobs or (told := choice.get("logprobs")) is None:
            return ()
        values = told.get("token_logprobs") if isinstance(told, dict) else None
        if not isinstance(values, list) or not all(map(_is_number, values)):
            raise EngineDied(f"expected the log-probability of each token, got {told!r:.64}")
        return tuple(map(float, values))


def load_of(metrics: bytes) -> EngineLoad | None:
    """Return what vLLM has to do, of its metrics as Prometheus reads them; None of something else."""
    found: dict[str, list[float]] = {_RUNNING: [], _WAITING: [], _CACHE: []}
    for line in metrics.decode(errors="replace").splitlines():
        name, _, rest = line.partition("{")
        if name in found:
            value = rest.rpartition("}")[2].split()
            try:
                number = float(value[0])
            except (ValueError, IndexError):
                continue
            if math.isfinite(number):
                found[name].append(number)
    if not found[_RUNNING]:
        return None
    # One of each engine, where a server has several.
    running, waiting = (max(0, round(sum(found[name]))) for name in (_RUNNING, _WAITING))
    return EngineLoad(running, waiting, min(1.0, max(0.0, *found[_CACHE], 0.0)))


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and math.isfinite(value)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise EngineDied(f"expected a number of tokens, got {value!r:.64}")
    return value


def _error(told: Any) -> EngineError:
    """Return what a server says in the place of the rest of an answer."""
    code, message = (told.get("code"), told.get("message")) if isinstance(told, dict) else (None, told)
    said = f"the answer ended with an error: {message!s:.300}"
    if code in _BUSY:
        return Busy(said)
    # OpenAI's codes are words, vLLM's are statuses.
    is_refused = type(code) is int and _REFUSED[0] <= code <= _REFUSED[1]
    return Unanswerable(said) if is_refused else EngineDied(said)
