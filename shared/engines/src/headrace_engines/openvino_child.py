"""The process of the engine OpenVINO GenAI: told of prompts over a socket, it tells what came of each step.

It alone loads the engine's libraries: they hold the interpreter for a step, may take memory without bound, and may
crash. It ends when the other side of its socket does. https://github.com/openvinotoolkit/openvino.genai
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from contextlib import suppress
from typing import Any, Final

from headrace_engines.framing import (
    CANCEL,
    MEMORY,
    READY,
    REFUSED,
    SCORE,
    SCORED,
    STEP,
    TEMPLATE,
    TEXT,
    WRONG,
    Ended,
    Inbox,
    Message,
    packed,
)

PROPERTIES: Final = {
    # What is measured on one machine is what another answers: no other numbers where the machine has some of 16 bits.
    "INFERENCE_PRECISION_HINT": "f32",
    # With 8 bits an answer would depend on what is made beside it.
    "KV_CACHE_PRECISION": "f16",
    "PERFORMANCE_HINT": "LATENCY",
}
"""How the engine computes."""
_MOST_PROMPT: Final = 16 * 1024 * 1024
_MOMENT_S: Final = 0.004


class Engine:
    """The pipeline, and its answers that are being made."""

    def __init__(self, told: Message) -> None:
        # Nothing of the engine calls home, and what could is not even loaded.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        import numpy as np
        import openvino_genai
        from openvino import Tensor

        self._engine, self._tensor, self._array = openvino_genai, Tensor, np.array
        schedule = openvino_genai.SchedulerConfig()
        schedule.cache_size = 0
        schedule.num_kv_blocks = told["blocks"]
        schedule.max_num_batched_tokens = told["step_tokens"]
        # Where prompts are read in chunks, it begins more than this beside each other: `takes` is what holds.
        schedule.max_num_seqs = self._most = told["answers"]
        schedule.enable_prefix_caching = told["keeps_prefixes"]
        properties: dict[str, Any] = dict(PROPERTIES)
        if told["threads"]:
            properties |= {"INFERENCE_NUM_THREADS": told["threads"], "sampler_num_threads": told["threads"]}
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(told["path"], schedule, "CPU", properties)
        self._ends = set(told["ends"])
        self._handles: dict[int, Any] = {}
        self._scores: dict[int, list[float]] = {}
        """The log-probabilities that have come, of those that score."""

    @property
    def is_busy(self) -> bool:
        """Whether something is being made."""
        return bool(self._handles)

    def takes(self, kind: str) -> bool:
        """Return whether one may begin, beside so many others at most.

        Those that score have no others beside them, whose rows they would read.
        """
        return not self._handles or (len(self._handles) < self._most and bool(self._scores) == (kind == SCORE))

    def begin(self, told: Message) -> None:
        """Begin an answer, or to score one."""
        config = self._scoring() if told["kind"] == SCORE else self._sampling(told)
        tokens = self._tensor(self._array([told["tokens"]], dtype="int64"))
        self._handles[told["id"]] = self._pipeline.add_request(told["id"], tokens, config)
        if told["kind"] == SCORE:
            self._scores[told["id"]] = []

    def cancel(self, number: int) -> None:
        """End an answer, which is told of by the next step."""
        if handle := self._handles.get(number):
            handle.cancel()

    def template(self, messages: list[dict[str, str]]) -> str:
        """Return the prompt for a conversation."""
        prompt: str = self._pipeline.get_tokenizer().apply_chat_template(messages, add_generation_prompt=True)
        if len(prompt) > _MOST_PROMPT:
            raise ValueError(f"expected a prompt of at most {_MOST_PROMPT} characters, got {len(prompt)}")
        return prompt

    def step(self, waiting: int) -> list[Message]:
        """Make one step of all answers. Return what there is to tell, while others wait to begin."""
        self._pipeline.step()
        pieces, told = [], []
        for number, handle in list(self._handles.items()):
            tokens, logprobs, finish = self._read(handle)
            if finish:
                del self._handles[number]
            if number not in self._scores:
                if tokens or finish:
                    pieces.append([number, tokens, logprobs, finish])
                continue
            self._scores[number] += logprobs
            if finish:
                told.append({"kind": SCORED, "id": number, "logprobs": self._scores.pop(number), "finish": finish})
        metrics = self._pipeline.get_metrics()
        load = [metrics.scheduled_requests, metrics.requests + waiting, metrics.cache_usage / 100]
        return [*told, {"kind": STEP, "pieces": pieces, "load": load if self._handles else [0, 0, 0.0]}]

    def _read(self, handle: Any) -> tuple[list[int], list[float], str]:
        tokens: list[int] = []
        logprobs: list[float] = []
        reason = self._engine.GenerationFinishReason.NONE
        while handle.can_read():
            for output in handle.read().values():
                tokens += output.generated_ids
                logprobs += output.generated_log_probs
                reason = output.finish_reason
        status, known = handle.get_status(), self._engine.GenerationStatus
        if status == known.RUNNING:
            return tokens, logprobs, ""
        if status == known.IGNORED:
            return [], [], MEMORY
        if status != known.FINISHED:
            return [], [], "cancelled"
        if reason != self._engine.GenerationFinishReason.STOP:
            return tokens, logprobs, "length"
        if tokens and tokens[-1] in self._ends:
            del tokens[-1], logprobs[len(tokens) :]
        return tokens, logprobs, "stop"

    def _scoring(self) -> Any:
        config = self._engine.GenerationConfig()
        config.echo, config.logprobs, config.max_new_tokens = True, 1, 0
        return config

    def _sampling(self, told: Message) -> Any:
        config, wanted = self._engine.GenerationConfig(), told["sampling"]
        config.max_new_tokens = wanted["max_tokens"]
        config.stop_token_ids = self._ends
        config.logprobs = int(wanted["logprobs"])
        config.frequency_penalty, config.presence_penalty = wanted["frequency_penalty"], wanted["presence_penalty"]
        if wanted["temperature"]:
            config.do_sample, config.temperature = True, wanted["temperature"]
            config.top_p, config.rng_seed = wanted["top_p"], wanted["seed"]
            if wanted["top_k"]:
                config.top_k = wanted["top_k"]
        if wanted["json_schema"] is not None:
            config.structured_output_config = self._engine.StructuredOutputConfig(json_schema=wanted["json_schema"])
        return config


class Loop:
    """Does what it is told, a step at a time. Returns when the other side has gone."""

    def __init__(self, connection: socket.socket, inbox: Inbox, engine: Engine) -> None:
        self._socket, self._inbox, self._engine = connection, inbox, engine
        self._waiting: deque[Message] = deque()

    def run(self) -> None:
        """Take in and step until the other side has gone."""
        while True:
            come = self._inbox.come() if self._engine.is_busy or self._waiting else self._inbox.wait(None)
            for message in come:
                self._take(message)
            if any(message["kind"] == TEMPLATE for message in come):
                self._hear_out()
            while self._waiting and self._engine.takes(self._waiting[0]["kind"]):
                self._begin(self._waiting.popleft())
            if self._engine.is_busy:
                for told in self._engine.step(len(self._waiting)):
                    self._tell(told)

    def _hear_out(self) -> None:
        """Wait a moment: whoever asked for a prompt comes with it, and would wait for a step."""
        with suppress(TimeoutError):
            for message in self._inbox.wait(_MOMENT_S):
                self._take(message)

    def _take(self, message: Message) -> None:
        if message["kind"] == CANCEL:
            if message["id"] in [each["id"] for each in self._waiting]:
                self._waiting = deque(each for each in self._waiting if each["id"] != message["id"])
                self._tell({"kind": STEP, "pieces": [[message["id"], [], [], "cancelled"]], "load": [0, 0, 0.0]})
            self._engine.cancel(message["id"])
        elif message["kind"] == TEMPLATE:
            self._answer(message)
        else:
            self._waiting.append(message)

    def _begin(self, message: Message) -> None:
        try:
            self._engine.begin(message)
        except Exception as error:  # the engine's have no base of their own
            self._tell({"kind": WRONG, "id": message["id"], "text": _said(error)})

    def _answer(self, message: Message) -> None:
        try:
            self._tell({"kind": TEXT, "id": message["id"], "text": self._engine.template(message["messages"])})
        except Exception as error:  # the engine's have no base of their own
            self._tell({"kind": WRONG, "id": message["id"], "text": _said(error)})

    def _tell(self, message: Message) -> None:
        self._socket.settimeout(None)
        self._socket.sendall(packed(message))


def _said(error: Exception) -> str:
    """Return what an error says, without the places in the engine's own source."""
    lines = [line for line in str(error).splitlines() if line.strip() and "/home/" not in line] or [str(error)]
    return " ".join(lines)[:500]


def main(descriptor: int) -> None:
    """Load what the first message says, and answer until the other side has gone."""
    connection = socket.socket(fileno=descriptor)
    inbox = Inbox(connection)
    try:
        (told,) = inbox.wait(None)
        try:
            engine = Engine(told)
        except Exception as error:  # the engine's have no base of their own
            memory = isinstance(error, MemoryError)
            connection.sendall(packed({"kind": REFUSED, "text": _said(error), "memory": memory}))
            return
        connection.sendall(packed({"kind": READY}))
        Loop(connection, inbox, engine).run()
    except (Ended, ConnectionError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
    # What the engine would do at its end takes time, and nothing of it is needed.
    os._exit(0)
