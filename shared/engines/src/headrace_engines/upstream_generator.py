"""Models of language in another server, by OpenAI's completions and what vLLM has beside them.

Of vLLM: tokens of a prompt, the chat template, guided answers, and what it has to do. A server without these, such as
another replica's OpenAI port, is asked for texts; what it took is known when an answer is over.
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final, Protocol

from headrace_engines.errors import Busy, EngineDied, EngineError, Unanswerable
from headrace_engines.generator import CANCELLED, EngineLoad, Message, Piece, Room, Running, Sampling
from headrace_engines.upstream import Absent, Exchange, Upstream
from headrace_engines.upstream_answers import Answer, asked_of, load_of

LOOK_S: Final = 1.0
"""Seconds between two looks at how the server is."""
UNKNOWN_CONTEXT: Final = 2**31 - 1
"""Of a server that does not say how long prompt and answer may be."""
_SILENCE_S: Final = 600.0
"""Seconds without a word of an answer, after which it is given up where nobody has cancelled it before."""
_MOST_MESSAGES: Final = 1_024
_BYTES_PER_TOKEN: Final = 16 * 1024
"""Of the event of one token, at most."""
_MOST_OVERHEAD: Final = 16 * 1024 * 1024


class Place(Protocol):
    """Where the model is served."""

    model: str
    """What the model is called there."""

    def find(self) -> Upstream:
        """Return the server that has the model now, and make sure that it has. Raises EngineDied where none has."""

    def leave(self) -> None:
        """Give up what was made for this model there."""


class UpstreamGenerator:
    """A model of language in another server. Safe for use by many threads.

    `on_health` is told whether the server has the model, whenever that changes; in a thread of the generator.
    Raises EngineDied where no server has it.
    """

    def __init__(
        self, place: Place, room: Room | None = None, on_health: Callable[[bool], None] = lambda _healthy: None
    ) -> None:
        self._place = place
        self._room = room or Room()
        self._on_health = on_health
        self._at = place.find()
        self._lock = threading.Lock()
        self._answers: set[_Running] = set()
        self._load = EngineLoad(0, 0, 0.0)
        self.healthy = True
        self._counts, told = True, UNKNOWN_CONTEXT
        self._first: list[int] = []
        try:
            self._first, told = self._tokenized({"prompt": ""})
        except (Absent, Unanswerable):
            # Not vLLM, or one that does not make tokens of nothing: which of the two tells the next call.
            self._counts = self._makes_tokens()
        self.context = min(told, self._room.context or told)
        """Most tokens of prompt and answer together."""
        self._closing = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="look at an upstream", daemon=True)
        self._looking.start()

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the prompt for a conversation by the model's chat template, up to where the answer begins."""
        if not 1 <= len(messages) <= _MOST_MESSAGES:
            raise Unanswerable(f"messages: expected 1 to {_MOST_MESSAGES}, got {len(messages)}")
        self._check_counts("a conversation")
        tokens, _ = self._tokenized({"messages": [asdict(each) for each in messages], "add_generation_prompt": True})
        told = self._asked("/detokenize", {"model": self._place.model, "tokens": tokens})
        if not isinstance(prompt := told.get("prompt"), str):
            raise EngineDied(f"{self._at}: expected a prompt, got {prompt!r:.64}")
        return prompt

    def count(self, text: str) -> int:
        """Return how many tokens a prompt has. Raises Unanswerable where the server does not tell."""
        self._check_counts("counting tokens")
        return len(self._tokens(text))

    def start(
        self,
        prompt: str,
        sampling: Sampling,
        on_piece: Callable[[Piece], None],
        on_error: Callable[[Exception], None],
    ) -> Running:
        """Begin an answer, in a thread of its own: there, too, it is told what the server refuses."""
        running = _Running(self._at, on_piece, on_error)
        self._admit(running)
        try:
            tokens: list[int] | None = None
            most = sampling.max_tokens
            if self._counts:
                tokens = self._tokens(prompt)
                running.prompt_tokens = len(tokens)
                most = min(most, self.context - len(tokens))
            elif sampling.json_schema is not None:
                self._check_counts("a JSON schema")
            body = asked_of(self._place.model, prompt if tokens is None else tokens, sampling, most)
        except BaseException:
            self._ended(running)
            raise
        answer = Answer(sampling, most, counts=self._counts)
        size = _MOST_OVERHEAD + most * _BYTES_PER_TOKEN
        threading.Thread(target=self._run, args=(running, answer, body, size), name="answer", daemon=True).start()
        return running

    def score(self, prompt: str, answer: str) -> Sequence[float]:
        """Return the log-probability of each token of an answer that follows a prompt."""
        self._check_counts("scoring")
        before, after = self._tokens(prompt), self._tokenized({"prompt": answer, "add_special_tokens": False})[0]
        if not after:
            raise Unanswerable("answer: expected at least one token, got none")
        tokens = before + after
        asked = {"model": self._place.model, "prompt": tokens, "max_tokens": 1, "prompt_logprobs": 0}
        told = self._asked("/v1/completions", asked, _SILENCE_S)
        try:
            found = told["choices"][0]["prompt_logprobs"]
            places = range(len(before), len(tokens))
            return [float(found[place][str(tokens[place])]["logprob"]) for place in places]
        except (LookupError, TypeError, ValueError) as error:
            raise EngineDied(f"{self._at}: expected the log-probability of each token, got {told!r:.64}") from error

    def load(self) -> EngineLoad:
        """Return what the server has to do, for everyone who asks it; of one that does not tell, what is asked here."""
        return self._load

    def close(self) -> None:
        """Ask the server no more. What is being made ends with EngineDied."""
        self._closing.set()
        with self._lock:
            left = list(self._answers)
        for running in left:
            running.fail(EngineDied(f"{self._at}: is asked no more"))
        self._looking.join()
        self._place.leave()

    def _check_counts(self, what: str) -> None:
        if not self._counts:
            raise Unanswerable(f"{what}: expected a server with vLLM's /tokenize, got {self._at} without")

    def _makes_tokens(self) -> bool:
        with suppress(Absent):
            _, _ = self._tokenized({"prompt": "a"})
            return True
        return False

    def _tokens(self, prompt: str) -> list[int]:
        tokens, _ = self._tokenized({"prompt": prompt})
        first = self._first
        # A chat template may have written what stands before every prompt.
        if first and tokens[: 2 * len(first)] == first * 2:
            tokens = tokens[len(first) :]
        if not tokens:
            raise Unanswerable("prompt: expected at least one token, got none")
        if len(tokens) >= self.context:
            raise Unanswerable(f"prompt: expected fewer than {self.context} tokens, got {len(tokens)}")
        return tokens

    def _tokenized(self, asked: dict[str, Any]) -> tuple[list[int], int]:
        """Return tokens, and how many of them prompt and answer may have together."""
        told = self._asked("/tokenize", {"model": self._place.model, **asked})
        tokens, context = told.get("tokens"), told.get("max_model_len")
        if not isinstance(tokens, list) or not all(type(each) is int for each in tokens):
            raise EngineDied(f"{self._at}: expected tokens, got {tokens!r:.64}")
        if type(context) is not int or context < 1:
            raise EngineDied(f"{self._at}: expected max_model_len, got {context!r:.64}")
        return tokens, context

    def _asked(self, path: str, asked: dict[str, Any], within_s: float = 30.0) -> dict[str, Any]:
        try:
            return self._at.ask(path, asked, within_s)
        except Absent:
            self._at = self._place.find()
            return self._at.ask(path, asked, within_s)

    def _admit(self, running: _Running) -> None:
        most = self._room.answers + self._room.waiting
        with self._lock:
            if self._closing.is_set():
                raise EngineDied(f"{self._at}: is asked no more")
            if len(self._answers) >= most:
                raise Busy(f"expected at most {most} answers at a time, got one more")
            self._answers.add(running)

    def _ended(self, running: _Running) -> None:
        with self._lock:
            self._answers.discard(running)

    def _run(self, running: _Running, answer: Answer, body: dict[str, Any], most_bytes: int) -> None:
        """Make an answer. In its thread."""
        try:
            for piece in self._pieces(running, answer, body, most_bytes):
                running.prompt_tokens = running.prompt_tokens or answer.prompt_tokens
                if not running.tell(piece):
                    return
        except Exception as error:  # whatever the server does: who waits is told
            running.fail(error if isinstance(error, EngineError) else EngineDied(f"{self._at}: {error!r}"))
        finally:
            self._ended(running)

    def _pieces(self, running: _Running, answer: Answer, body: dict[str, Any], most_bytes: int) -> Iterator[Piece]:
        """Yield the pieces of an answer; begin it once more where the server has lost the model, as by its start."""
        for again in (False, True):
            try:
                with running.exchange(self._at, _SILENCE_S) as exchange:
                    for event in exchange.events("/v1/completions", body, most_bytes):
                        yield from answer.pieces(event)
                    yield answer.last()
            except Absent as error:
                if again:
                    raise EngineDied(str(error)) from error
                self._at = self._place.find()
            else:
                return

    def _look_on(self) -> None:
        while not self._closing.wait(LOOK_S):
            try:
                self._look()
            except Exception:  # whatever it is: the next look may find it
                self._tell_health(healthy=False)

    def _look(self) -> None:
        """Look where the model is, and what its server has to do."""
        self._at = self._place.find()
        found = None
        with suppress(EngineError):
            found = load_of(self._at.get("/metrics"))
        self._load = found or EngineLoad(len(self._answers), 0, 0.0)
        self._tell_health(healthy=True)

    def _tell_health(self, *, healthy: bool) -> None:
        if healthy != self.healthy and not self._closing.is_set():
            self.healthy = healthy
            self._on_health(healthy)


class _Running:
    """One answer that is being made: pieces, then a last piece or an error, and nothing after it."""

    def __init__(self, at: Upstream, on_piece: Callable[[Piece], None], on_error: Callable[[Exception], None]) -> None:
        self.prompt_tokens = 0
        self._at = at
        self._on_piece, self._on_error = on_piece, on_error
        self._lock = threading.Lock()
        self._is_over = False
        self._exchange: Exchange | None = None

    def exchange(self, at: Upstream, within_s: float) -> Exchange:
        """Return the request that makes it."""
        found = Exchange(at, within_s)
        with self._lock:
            self._exchange = found
            if self._is_over:
                found.end()
        return found

    def cancel(self) -> None:
        """End it."""
        self.tell(Piece("", finish=CANCELLED))
        self._close()

    def tell(self, piece: Piece) -> bool:
        """Hand a piece on; return whether more are wanted."""
        with self._lock:
            if self._is_over:
                return False
            self._is_over = bool(piece.finish)
            try:
                self._on_piece(piece)
            except Exception as error:  # one caller's fault
                self._is_over = True
                self._on_error(error)
            return not self._is_over

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        with self._lock:
            if not self._is_over:
                self._is_over = True
                with suppress(Exception):
                    self._on_error(error)
        self._close()

    def _close(self) -> None:
        if self._exchange is not None:
            self._exchange.end()
