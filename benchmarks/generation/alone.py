"""The engine alone, in the loop that one would write: python -m benchmarks.generation.alone MODEL."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import openvino_genai
import psutil  # type: ignore[import-untyped]
from headrace_engines.openvino_child import PROPERTIES

from benchmarks.generation.work import CACHE_BYTES, LONG_TOKENS, STEP_TOKENS, STREAMS, TOKENS, Figures, Late, questions
from benchmarks.generation.work import serve as answer


class Alone:
    """A pipeline that computes as Headrace's does."""

    def __init__(self, model: str) -> None:
        schedule = openvino_genai.SchedulerConfig()
        schedule.cache_size = CACHE_BYTES // 2**30
        schedule.max_num_batched_tokens = STEP_TOKENS
        schedule.enable_prefix_caching = True
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(model, schedule, "CPU", dict(PROPERTIES))
        self._number = 0

    def measure(self, callers: int, number: int) -> Figures:
        """Answer all callers of a round."""
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        handles = [self._begin(text, TOKENS) for text in questions(callers, number)]
        firsts: dict[int, float] = {}
        tokens = 0
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            for place, handle in enumerate(handles):
                if found := _read(handle):
                    firsts.setdefault(place, time.perf_counter() - began_s)
                    tokens += found
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        return Figures(tokens / took_s, tokens / cpu_s, statistics.median(firsts.values()))

    def late(self, number: int) -> Late:
        """Begin one in the middle of others."""
        (text,) = questions(1, number)
        prefill_s, _ = self._first(self._begin(f"{text} ", 1))
        for each in (handles := [self._begin(each, LONG_TOKENS) for each in questions(STREAMS, number + 1)]):
            self._first(each)
        steps = [self._step() for _ in range(20)]
        first_s, _ = self._first(self._begin(text, 1))
        while self._pipeline.has_non_finished_requests():
            self._step()
        del handles
        return Late(first_s, prefill_s, statistics.median(steps))

    def _begin(self, text: str, tokens: int) -> Any:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = tokens
        tokenizer = self._pipeline.get_tokenizer()
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
        self._number += 1
        return self._pipeline.add_request(self._number, tokenizer.encode(prompt).input_ids, config)

    def _first(self, handle: Any) -> tuple[float, int]:
        began_s = time.perf_counter()
        while not (found := _read(handle)):
            self._pipeline.step()
        return time.perf_counter() - began_s, found

    def _step(self) -> float:
        began_s = time.perf_counter()
        self._pipeline.step()
        return time.perf_counter() - began_s


def _read(handle: Any) -> int:
    found = 0
    while handle.can_read():
        found += sum(len(output.generated_ids) for output in handle.read().values())
    return found


if __name__ == "__main__":
    alone = Alone(sys.argv[1])
    answer(alone.measure, alone.late, lambda: psutil.Process().memory_info().rss / 2**20)
