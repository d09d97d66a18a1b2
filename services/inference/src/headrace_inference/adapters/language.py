"""A model of language in a replica: which calls it takes, and their answers, piece by piece."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeVar

from headrace_engines import errors as engine
from headrace_engines.generator import CANCELLED, EngineLoad, Generator, Message, Piece, Running
from headrace_runtime import errors
from headrace_runtime.priorities import NORMAL
from headrace_runtime.rpc.admission import Admission, Capacity, Reason
from headrace_runtime.rpc.turns import Turns

from headrace_inference.core import metrics
from headrace_inference.core.generation import TEXT_INPUT, Ask, Bounds

PREFILL: Final = 8
"""Tokens of a prompt that take as long as one of an answer: they are read together, and written one by one."""
BYTES_PER_TOKEN: Final = 4
"""What a token of a prompt takes about, until the engine has counted."""
THREADS: Final = 16
"""Most calls at once that are handed to an engine, which may take as long as a step of it."""
FULL: Final = 0.95
"""Share of the memory for keys and values from which on no more answers are made at once than are now."""
BUSY_S: Final = 1.0
"""Seconds after which a caller may try again where an engine said after a while that it is busy."""
LEARNING: Final = 1 / 32
"""Weight of the latest answer in what is learnt of them."""
MOST_CROWDING: Final = 4.0

_ERRORS: Final = {
    engine.EngineDied: errors.Unavailable,
    engine.NoMemory: errors.TooLarge,
    engine.Unanswerable: errors.InvalidInput,
    engine.RanTooLong: errors.DeadlineExceeded,
}


ResultT = TypeVar("ResultT")


class Language:
    """A generator, and the calls that it has. `token_s` is how long a token of an answer takes that is made alone.

    The engine takes `answers` at once; others wait for their turn here, as the engine's own line has no priorities. A
    call is admitted when what runs and waits, in tokens that are predicted, and the memory for keys and values leave it
    enough of its time. Used in one event loop, but for `check` and `strain`.
    """

    def __init__(
        self, generator: Generator, bounds: Bounds, capacity: Capacity, answers: int, token_s: float = 0.05
    ) -> None:
        self.generator = generator
        self.bounds = bounds
        self._answers = answers
        # A unit of work is what takes a second for one caller; with others beside it takes longer, which is learnt.
        self._admission = Admission(capacity, answers)
        self._turns: Turns[asyncio.Future[None]] = Turns(capacity.wait_s)
        self._begun = 0
        """Answers that the engine has, or is being given."""
        self._faults = 0
        """Ends of the engine that were told of."""
        self.token_s = token_s
        self._share = 1.0
        """Share of its most tokens that an answer has."""
        self._crowding = 0.1
        """How much longer a token takes for each answer that is made beside, as a share."""
        self._threads = ThreadPoolExecutor(THREADS, "asking an engine")
        self._lock = threading.Lock()
        self._holds = 0
        self._retired = False

    def hold(self) -> bool:
        """Keep the engine until `let_go`; return False where it is replaced. From any thread."""
        with self._lock:
            self._holds += not self._retired
            return not self._retired

    def let_go(self) -> None:
        """Keep the engine no longer. From any thread."""
        with self._lock:
            self._holds -= 1
            ends = self._retired and not self._holds
        if ends:
            self._end()

    def retire(self) -> None:
        """End the engine as soon as nobody holds it. From any thread."""
        with self._lock:
            ends = not self._retired and not self._holds
            self._retired = True
        if ends:
            self._end()

    def _end(self) -> None:
        """End the engine in a thread: whoever let go of it last may be the event loop."""
        threading.Thread(target=self._close, name="end of an engine", daemon=True).start()

    def _close(self) -> None:
        self.generator.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def check(self, model: str, ask: Ask | None, size_bytes: int, left_s: float | None, priority: int = NORMAL) -> None:
        """Raise when a call could not be answered in time: Overloaded with the reason, or DeadlineExceeded.

        From any thread; `ask` is None for a call of which nothing but its size and priority is known.
        """
        load, work_s = self._look(), self._work_s(ask)
        limit_s = min(self.bounds.seconds, math.inf if left_s is None else left_s)
        reason = self._admission.refusal(work_s, size_bytes, left_s, time.monotonic(), priority)
        if reason is Reason.LATE:
            raise errors.DeadlineExceeded(f"model {model!r}: the deadline passed before the model was asked")
        calls, wait_s = self._admission.calls, self._admission.wait_of(priority)
        takes_s = wait_s + work_s * (1 + self._crowding * min(calls, self._admission.lanes))
        if reason is Reason.OVERLOADED or (calls and takes_s > limit_s):
            held = (
                f"{calls} answers are made or wait, {load.cache_used:.0%} of the memory for keys and values is in use"
            )
            expected = f"one more would wait for {wait_s:.2f} s and be whole after {takes_s:.2f} s of {limit_s:.3g} s"
            raise errors.Overloaded(f"model {model!r}: {held}, {expected}", max(wait_s, self.token_s))

    def strain(self, left_s: float | None) -> float:
        """Return how near a call is to being refused, as `Admission.strain` does. From any thread."""
        self._look()
        return self._admission.strain(self._work_s(None), left_s, time.monotonic())

    async def prompt(self, model: str, messages: Sequence[Message]) -> str:
        """Return the prompt for a conversation by the model's chat template. Raises InvalidInput, Unavailable."""
        try:
            return await self._in_thread(partial(self.generator.prompt, messages))
        except engine.EngineError as error:
            raise _translated(model, error) from error

    @asynccontextmanager
    async def answering(self, model: str, ask: Ask, size_bytes: int, left_s: float | None) -> AsyncIterator[Answering]:
        """Begin an answer; what is left of it at the end is cancelled.

        Raises what `check` raises, InvalidInput for a prompt that does not fit, Unavailable when the engine died.
        """
        self.check(model, ask, size_bytes, left_s, ask.priority)
        came_s, work_s = time.monotonic(), self._work_s(ask)
        limit_s = min(self.bounds.seconds, math.inf if left_s is None else left_s)
        self._admission.begin(work_s, size_bytes, came_s, ask.priority)
        line = _Line(model, limit_s)
        try:
            async with self._place(ask, line), self._running(model, ask, line) as running:
                yield Answering(line, running, time.monotonic() - came_s)
        finally:
            line.close()
            self._admission.end(work_s, size_bytes, ask.priority)
            self._tell(model)

    @asynccontextmanager
    async def _place(self, ask: Ask, line: _Line) -> AsyncIterator[None]:
        """Wait for a place in the engine, and keep it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.add(turn, ask.priority, time.monotonic())
        try:
            self._hand_out()
            async with line.limit():
                await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._begun -= 1
            else:
                self._turns.leave(turn)
            self._hand_out()

    def _hand_out(self) -> None:
        """Give the places that are free to those whose turn it is."""
        self._look()
        while self._turns and self._begun < self._admission.lanes:
            turn = self._turns.next()
            if not turn.done():  # by who waits no longer
                turn.set_result(None)
                self._begun += 1

    @asynccontextmanager
    async def _running(self, model: str, ask: Ask, line: _Line) -> AsyncIterator[Running]:
        """Begin an answer; cancel what is left of it, or learn of the whole."""
        began_s, before = time.monotonic(), self._begun - 1
        running = await self._start(model, ask, line)
        try:
            self._check_prompt(running.prompt_tokens)
            self._tell(model)
            yield running
        finally:
            if line.ended:
                beside = (before + self._begun - 1) / 2
                self._learn(ask, line.tokens, time.monotonic() - began_s, beside)
            else:
                running.cancel()

    async def _start(self, model: str, ask: Ask, line: _Line) -> Running:
        """Hand a prompt to the engine, which may take as long as a step of it."""
        start = partial(self.generator.start, ask.prompt, ask.sampling, line.tell, line.tell)
        starting = self._in_thread(start)
        try:
            async with line.limit():
                return await asyncio.shield(starting)
        except (asyncio.CancelledError, errors.DeadlineExceeded):
            starting.add_done_callback(_give_up)
            raise
        except engine.Busy as error:
            raise errors.Overloaded(f"model {model!r}: {error}", self._admission.wait_s) from error
        except engine.EngineError as error:
            raise _translated(model, error) from error

    def _in_thread(self, call: Callable[[], ResultT]) -> asyncio.Future[ResultT]:
        """Run something in a thread of this model's own: an engine that hangs keeps no other's calls."""
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _tell(self, model: str) -> None:
        load, told = self.generator.load(), metrics.of_language(model)
        told.running.set(load.running)
        told.waiting.set(load.waiting + len(self._turns))
        told.cache_used.set(load.cache_used)
        told.faults.inc(load.faults - self._faults)
        self._faults = load.faults

    def _check_prompt(self, tokens: int) -> None:
        if tokens > (most := self.bounds.prompt_tokens):
            raise errors.InvalidInput(f"input {TEXT_INPUT!r}: expected at most {most} tokens, got {tokens}")

    def _look(self) -> EngineLoad:
        """Ask the engine how much memory is left: without any, one more answer has to wait until another has ended."""
        load = self.generator.load()
        self._admission.lanes = max(1, load.running) if load.cache_used >= FULL else self._answers
        return load

    def _work_s(self, ask: Ask | None) -> float:
        """Return how long an answer should take by itself, in seconds."""
        if ask is None:
            return self.token_s
        prompt = len(ask.prompt) / BYTES_PER_TOKEN
        return self.token_s * (prompt / PREFILL + ask.sampling.max_tokens * self._share)

    def _learn(self, ask: Ask, tokens: int, took_s: float, beside: float) -> None:
        """Learn of an answer with so many tokens, and on average so many others beside it."""
        self._share += LEARNING * (tokens / ask.sampling.max_tokens - self._share)
        alone_s = self.token_s * (len(ask.prompt) / BYTES_PER_TOKEN / PREFILL + tokens)
        self._admission.learn(alone_s, took_s)
        if beside and alone_s:
            crowding = min(max(0.0, took_s / alone_s - 1) / beside, MOST_CROWDING)
            self._crowding += LEARNING * (crowding - self._crowding)


class Answering:
    """An answer that is being made: an iteration over its pieces. One that ends without an error is whole."""

    def __init__(self, line: _Line, running: Running, queue_s: float) -> None:
        self._line = line
        self._running = running
        self.queue_s = queue_s
        """Seconds until the engine had taken it in."""

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has; 0 while that is not known."""
        return self._running.prompt_tokens

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield its pieces. Raises Unavailable when the engine died, and DeadlineExceeded when its time is over."""
        while not self._line.ended:
            yield await self._line.next()


class _Line:
    """What comes of one answer, from the engine's thread to the event loop."""

    def __init__(self, model: str, limit_s: float) -> None:
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._late = errors.DeadlineExceeded(f"model {model!r}: the answer was not whole after {limit_s:.3g} s")
        self._timer = self._loop.call_later(limit_s, self._items.put_nowait, self._late)
        self.tokens = 0
        self.ended = False
        """Whether the answer is whole."""

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """End what is awaited within, with DeadlineExceeded, when the answer's time is over."""
        try:
            async with asyncio.timeout_at(self._timer.when()):
                yield
        except TimeoutError as error:
            raise self._late from error

    def tell(self, item: Piece | Exception) -> None:
        """Take what comes next, from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and its calls with it
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)

    async def next(self) -> Piece:
        """Return the next piece, or raise what came in its place."""
        item = await self._items.get()
        if isinstance(item, errors.HeadraceError):
            raise item
        if isinstance(item, engine.Busy):
            raise errors.Overloaded(f"model {self._model!r}: {item}", BUSY_S) from item
        if isinstance(item, Exception):
            raise _translated(self._model, item) from item
        if item.finish == CANCELLED:
            raise errors.Unavailable(f"model {self._model!r}: the answer was given up before its end")
        self.tokens += len(item.tokens)
        self.ended = bool(item.finish)
        return item

    def close(self) -> None:
        """Let the time limit go."""
        self._timer.cancel()


def _translated(model: str, error: Exception) -> Exception:
    kind = next((kind for each, kind in _ERRORS.items() if isinstance(error, each)), None)
    return error if kind is None else kind(f"model {model!r}: {error}")


def _give_up(starting: asyncio.Future[Running]) -> None:
    """Cancel an answer that nobody waits for any more, once it has begun."""
    if not starting.cancelled() and starting.exception() is None:
        starting.result().cancel()
