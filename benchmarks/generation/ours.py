"""Headrace's generator, engine and all: python -m benchmarks.generation.ours MODEL."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from headrace_engines.generator import Message, Piece, Room, Sampling
from headrace_engines.openvino_generator import OpenVinoGenerator

from benchmarks.figures import cpu_s
from benchmarks.generation.work import CACHE_BYTES, LONG_TOKENS, STEP_TOKENS, STREAMS, TOKENS, Figures, Late, questions
from benchmarks.generation.work import serve as answer


class Caller:
    """One caller, and when it heard what."""

    def __init__(self, generator: OpenVinoGenerator, text: str, tokens: int) -> None:
        self._ended = threading.Event()
        self.heard_s: list[float] = []
        self.tokens = 0
        self._error: Exception | None = None
        self.began_s = time.perf_counter()
        prompt = generator.prompt([Message("user", text)])
        self.running = generator.start(prompt, Sampling(tokens), self._piece, self._fail)

    def _piece(self, piece: Piece) -> None:
        if piece.tokens:
            self.heard_s.append(time.perf_counter())
        self.tokens += len(piece.tokens)
        if piece.finish:
            self._ended.set()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._ended.set()

    def wait(self) -> float:
        """Return the time to the first token. Raises what went wrong."""
        self._ended.wait()
        if self._error:
            raise self._error
        return self.heard_s[0] - self.began_s


class Ours:
    """A generator with its defaults."""

    def __init__(self, model: str) -> None:
        self._generator = OpenVinoGenerator(Path(model), Room(cache_bytes=CACHE_BYTES, step_tokens=STEP_TOKENS))

    def measure(self, callers: int, number: int) -> Figures:
        """Answer all callers of a round."""
        began_s, began_cpu_s = time.perf_counter(), self._cpu_s()
        # Callers know nothing of each other: none waits for another's prompt before it comes.
        with ThreadPoolExecutor(callers) as threads:
            calls = list(threads.map(lambda text: Caller(self._generator, text, TOKENS), questions(callers, number)))
        first_s = statistics.median(call.wait() for call in calls)
        tokens = sum(call.tokens for call in calls)
        took_s, used_s = time.perf_counter() - began_s, self._cpu_s() - began_cpu_s
        return Figures(tokens / took_s, tokens / used_s, first_s)

    def late(self, number: int) -> Late:
        """Begin one in the middle of others."""
        (text,) = questions(1, number)
        prefill_s = Caller(self._generator, f"{text} ", 1).wait()
        others = [Caller(self._generator, each, LONG_TOKENS) for each in questions(STREAMS, number + 1)]
        while not all(len(other.heard_s) > 20 for other in others):
            time.sleep(0.001)
        first_s = Caller(self._generator, text, 1).wait()
        for other in others:
            other.running.cancel()
        steps = [later - earlier for earlier, later in pairwise(others[0].heard_s[1:20])]
        return Late(first_s, prefill_s, statistics.median(steps))

    def memory(self) -> float:
        """Return what both processes hold, in MiB."""
        here = psutil.Process()
        return float(sum(each.memory_info().rss for each in (here, *here.children(recursive=True))) / 2**20)

    def _cpu_s(self) -> float:
        return time.process_time() + cpu_s(self._generator.pid or 0)


if __name__ == "__main__":
    ours = Ours(sys.argv[1])
    answer(ours.measure, ours.late, ours.memory)
