"""Models of language in an engine, as inference asks them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

import numpy as np
from headrace_engines import GENERATORS, GGUF
from headrace_engines.errors import EngineDied, EngineError, NoMemory, NotAModel, Unanswerable
from headrace_engines.generator import CANCELLED, Generator, Piece, Room
from headrace_runtime.errors import InvalidInput, Unavailable, Unprocessable
from headrace_runtime.rpc.admission import Capacity

from headrace_inference.adapters.language import Language
from headrace_inference.core import generation
from headrace_inference.core.generation import Bounds, Whole
from headrace_inference.core.shelf import Speed
from headrace_inference.core.tensors import Array

WARM_TOKENS: Final = 8
LOOK_S: Final = 0.2
"""Seconds between two looks at whether the service stops meanwhile."""


@dataclass(frozen=True, slots=True)
class LanguageLimits:
    """What calls of a model of language may ask for, wait for, and take of the machine."""

    bounds: Bounds = field(default_factory=Bounds)
    capacity: Capacity = field(default_factory=lambda: Capacity(calls=320, wait_s=10.0))
    room: Room = field(default_factory=Room)


def local(path: Path, limits: LanguageLimits) -> Generator:
    """Return the engine of a file, in this replica. Raises what engines do for one that they do not load."""
    return GENERATORS[GGUF](path, limits.room)


def load(
    make: Callable[[], Generator], limits: LanguageLimits, limit_s: float, stopping: Callable[[], bool]
) -> LanguageModel:
    """Return a model that an engine, which `make` makes, has loaded within a time, in seconds.

    Raises Unprocessable for what is none or takes longer, and Unavailable when it is given up for a stop.
    """
    found: Future[LanguageModel] = Future()

    def run() -> None:
        try:
            found.set_result(LanguageModel(make, limits))
        except BaseException as error:  # whatever it is, who waits for it is told
            found.set_exception(error)

    threading.Thread(target=run, name="loading of an engine", daemon=True).start()
    ends_s = time.monotonic() + limit_s
    while time.monotonic() < ends_s and not stopping():
        with suppress(TimeoutError):
            return found.result(LOOK_S)
    found.add_done_callback(_retire)
    if stopping():
        raise Unavailable("graph: loading was given up, the service stops")
    raise Unprocessable(f"graph: it did not load within {limit_s:g} s")


def _retire(found: Future[LanguageModel]) -> None:
    """End the engine of a model that nobody waits for any more."""
    if found.exception() is None:
        found.result().language.retire()


class LanguageModel:
    """A model of language that an engine has loaded. The engine ends when `language` is retired.

    Raises Unprocessable for what is no model that can be served.
    """

    def __init__(self, make: Callable[[], Generator], limits: LanguageLimits) -> None:
        try:
            self._generator = make()
        except (NotAModel, NoMemory, EngineDied, ValueError) as error:
            raise Unprocessable(f"graph: {error}") from error
        self.signature = generation.signature()
        self.language = Language(self._generator, limits.bounds, limits.capacity, limits.room.answers)
        self._limit_s = limits.bounds.seconds

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the outputs named, in that order, of a whole answer. Blocks until it is there."""
        ask = generation.ask_of(arrays, self.language.bounds)
        told: SimpleQueue[Piece | Exception] = SimpleQueue()
        running = self._generator.start(ask.prompt, ask.sampling, told.put, told.put)
        whole = Whole(running.prompt_tokens)
        while not whole.usage.finish:
            piece = told.get(timeout=self._limit_s)
            if isinstance(piece, Exception):
                raise piece
            whole.add(piece)
        whole.prompt_tokens = running.prompt_tokens  # which some know at the end
        if whole.usage.finish == CANCELLED:
            raise Unavailable("the answer was given up before its end")
        return whole.outputs(tuple(outputs))

    def warm(self) -> Speed:
        """Answer twice; return how long the first token of an answer took, and each one more.

        Raises Unprocessable when the model does not answer.
        """
        try:
            self._answer(1)
            first_s, all_s = self._answer(1), self._answer(WARM_TOKENS)
        except BaseException as error:
            self.language.retire()
            if isinstance(error, EngineError | Empty):
                raise Unprocessable(f"graph: expected an answer, got {error!r}") from error
            raise
        speed = Speed(first_s, max(0.0, all_s - first_s) / (WARM_TOKENS - 1), is_steady=False)
        self.language.token_s = max(speed.next_row_s, 1e-6)
        return speed

    def sample(self, tokens: int = 1) -> dict[str, Array]:
        """Return a call of an answer of so many tokens, to try it with."""
        return {
            generation.TEXT_INPUT: generation.texts("a"),
            generation.STREAM: np.zeros(1, bool),
            generation.SAMPLING: generation.texts(generation.parameters_of(max_tokens=tokens)),
        }

    def tokens(self, arrays: Mapping[str, Array]) -> int:
        """Return how many tokens the prompt of a call has. Raises InvalidInput for one that is too long."""
        try:
            return self.language.generator.count(str(arrays[generation.TEXT_INPUT][0]))
        except Unanswerable as error:
            raise InvalidInput(str(error)) from error

    def _answer(self, tokens: int) -> float:
        started = time.perf_counter()
        self.run(self.sample(tokens), self.signature.output_names)
        return time.perf_counter() - started
