"""Models of language as they are served, asked what they think of known answers, and for answers of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

import numpy as np
from headrace_data.tasks import TASKS, Classes, Scores
from headrace_data.tasks.generation import EXACT, NATS, TOKENS
from headrace_engines import GENERATORS, GGUF
from headrace_engines.beside import Graph
from headrace_engines.errors import Unanswerable
from headrace_engines.generator import Generator, Message, Piece, Room, Sampling

from headrace_learning.graphs import Array, Columns
from headrace_learning.language_models.gguf_files import prompt_of

_TIMED_TOKENS: Final = 24
"""Tokens of an answer whose times are taken."""
AT_ONCE: Final = 8
"""Answers that are measured at once: an engine computes the tokens of several in one step."""
ANSWERED_ROWS: Final = 16
"""Rows, the first ones, that a model answers itself."""
MOST_TOKENS: Final = 48
"""Tokens of such an answer, at most."""
_ROOM: Final = Room(cache_bytes=128 * 2**20, answers=AT_ONCE, keeps_prefixes=False)
"""Without what earlier prompts left, of which engines know no probabilities."""


def open_generator(graph: Graph) -> Generator:
    """Return a model of language in the engine that serves it."""
    return GENERATORS[GGUF](graph, _ROOM)


@dataclass
class Answer:
    """What a model answered a prompt with, greedily."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finish: str = ""
    at: list[float] = field(default_factory=list)
    """When each piece came, in seconds of the clock."""


def answered(generator: Generator, prompt: str, most: int) -> Answer:
    """Return the likeliest token each time, so many at most. Raises what the engine does."""
    answer, ended = Answer(), threading.Event()
    failures: list[Exception] = []

    def on_piece(piece: Piece) -> None:
        answer.text += piece.text
        answer.tokens += piece.tokens
        answer.at.append(perf_counter())
        if piece.finish:
            answer.finish = piece.finish
            ended.set()

    def on_error(error: Exception) -> None:
        failures.append(error)
        ended.set()

    generator.start(prompt, Sampling(max_tokens=most), on_piece, on_error)
    ended.wait()
    if failures:
        raise failures[0]
    return answer


class TextAnswerer:
    """A model of language, ready to be measured by rows."""

    def __init__(self, graph: Graph, generator: Generator | None = None) -> None:
        """Ask an engine; `generator` is the file in an engine, where it is in one already."""
        self.generator = generator or open_generator(graph)
        self.task = TASKS["generation"]
        self.classes: Classes = ()
        self.steps: Classes = ()
        self._prompt = prompt_of(graph)
        self._answered = 0

    def close(self) -> None:
        """End the engine."""
        self.generator.close()

    def prompts(self, columns: Columns, rows: int) -> list[str]:
        """Return what stands before the answers of some rows."""
        return [self._before(columns, row) for row in range(rows)]

    def _before(self, columns: Columns, row: int) -> str:
        if not self._prompt.feature:
            return self._prompt.beginning
        return self.generator.prompt([Message("user", columns[self._prompt.feature][row] or self._prompt.fill)])

    def answers(self, columns: Columns, truth: Array) -> Mapping[str, Array]:
        """Return what the model thinks of the known answers to some rows, and whether its own are these, of the first.

        A row whose prompt and answer are longer than the model takes has no tokens.
        """
        prompts = self.prompts(columns, len(truth))
        with ThreadPoolExecutor(AT_ONCE) as threads:
            thoughts = list(threads.map(self._thought, prompts, truth))
            own = max(0, min(ANSWERED_ROWS - self._answered, len(truth)))
            exact = list(threads.map(self._is_exact, prompts[:own], truth[:own]))
        self._answered += own
        return {
            NATS: np.array([-sum(each) for each in thoughts], np.float64),
            TOKENS: np.array([len(each) for each in thoughts], np.int64),
            EXACT: np.array(exact + [np.nan] * (len(truth) - own), np.float64),
        }

    def scores(self) -> Scores:
        """Return what measures such answers."""
        return self.task.scores(())

    def _thought(self, prompt: str, answer: str) -> Sequence[float]:
        try:
            return self.generator.score(prompt, answer)
        except Unanswerable:
            return ()

    def _is_exact(self, prompt: str, answer: str) -> float:
        try:
            if self.generator.count(answer) > MOST_TOKENS:
                return 0.0
            given = answered(self.generator, prompt, MOST_TOKENS)
        except Unanswerable:
            return 0.0
        return float(given.text.strip() == answer.strip())


def agreement(
    reference: Sequence[Answer], prompts: Sequence[str], other: Generator, part: Callable[[Sequence[int]], bytes]
) -> float:
    """Return the share of the tokens of a reference's answers that another model finds likeliest, given those before.

    The other answers each prompt with what the reference said up to where the two differ, and on from there. `part`
    are the bytes of tokens.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(lambda answer, prompt: _agreed(answer, prompt, other, part), reference, prompts))
    tokens = sum(len(each.tokens) for each in reference)
    return sum(found) / tokens if tokens else 1.0


def _agreed(answer: Answer, prompt: str, other: Generator, part: Callable[[Sequence[int]], bytes]) -> int:
    agreed, at = 0, 0
    while at < len(answer.tokens):
        try:
            said = part(answer.tokens[:at]).decode()
        except UnicodeDecodeError:  # a part of a character is no text
            at += 1
            continue
        expected = answer.tokens[at:]
        given = answered(other, prompt + said, len(expected)).tokens
        alike = [one == other for one, other in zip(expected, given, strict=False)]
        same = alike.index(False) if False in alike else len(alike)
        agreed += same
        at += same + 1
    return agreed


def step_times_ms(generator: Generator, prompts: Sequence[str]) -> list[float]:
    """Return the mean time from one token to the next of each answer of two or more, of a single caller, in ms."""
    times: list[float] = []
    for prompt in prompts:
        answer = answered(generator, prompt, _TIMED_TOKENS)
        if len(answer.tokens) > 1:
            times.append((answer.at[-1] - answer.at[0]) * 1e3 / (len(answer.tokens) - 1))
    return times
