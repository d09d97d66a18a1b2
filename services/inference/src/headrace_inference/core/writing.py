"""What is told of an answer that a model of language writes: its span, and its times."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from headrace_engines.generator import Piece
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import tracer
from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode
from opentelemetry.util.types import AttributeValue

from headrace_inference.core import metrics
from headrace_inference.core.generation import Ask, Usage

if TYPE_CHECKING:
    from headrace_inference.core.shelf import LoadedVersion

PROVIDER: Final = "headrace"


class Writing:
    """One answer, from the call's arrival (`started`, on the clock of `time.perf_counter`) to its last piece.

    The span is never the current one: between two pieces whoever reads them goes on with something else.
    """

    def __init__(self, version: LoadedVersion, ask: Ask, started: float) -> None:
        self._model = version.release.model
        self._ask = ask
        self._started = started
        self._began = self._first = self._last = 0.0
        self._span: Span = trace.INVALID_SPAN
        self.metrics = metrics.of_language(self._model)

    @property
    def took_s(self) -> float:
        """Seconds from its begin to its last piece."""
        return self._last - self._began

    def __enter__(self) -> Self:
        self._began = self._last = time.perf_counter()
        if trace.get_current_span().is_recording():
            name = f"{names.SPAN_TEXT_COMPLETION} {self._model}"
            self._span = tracer.start_span(name, attributes=_asked(self._model, self._ask))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._span.set_status(StatusCode.ERROR, kind.__name__)
            self._span.set_attribute("error.type", kind.__name__)
        self._span.end()

    def told(self, piece: Piece) -> None:
        """Take note of a piece."""
        self._last = time.perf_counter()
        if not self._first and piece.tokens:
            self._first = self._last
            self.metrics.first_token.observe(self._first - self._started)
            self._span.set_attribute(names.GEN_AI_TIME_TO_FIRST_CHUNK, self._first - self._started)

    def ended(self, usage: Usage) -> None:
        """Take note that the answer is whole."""
        if usage.answer_tokens > 1:
            self.metrics.each_token.observe((self._last - self._first) / (usage.answer_tokens - 1))
        self.metrics.prompt_tokens.inc(usage.prompt_tokens)
        self.metrics.answer_tokens.inc(usage.answer_tokens)
        self._span.set_attributes(
            {
                names.GEN_AI_INPUT_TOKENS: usage.prompt_tokens,
                names.GEN_AI_OUTPUT_TOKENS: usage.answer_tokens,
                names.GEN_AI_FINISH_REASONS: [usage.finish],
            }
        )


def _asked(model: str, ask: Ask) -> Mapping[str, AttributeValue]:
    sampling = ask.sampling
    found: dict[str, AttributeValue] = {
        names.GEN_AI_OPERATION: names.SPAN_TEXT_COMPLETION,
        names.GEN_AI_PROVIDER: PROVIDER,
        names.GEN_AI_MODEL: model,
        names.GEN_AI_STREAM: ask.streamed,
        names.GEN_AI_MAX_TOKENS: sampling.max_tokens,
        names.GEN_AI_TEMPERATURE: sampling.temperature,
        names.GEN_AI_TOP_P: sampling.top_p,
        names.GEN_AI_TOP_K: sampling.top_k,
        names.GEN_AI_STOP: sampling.stop,
        names.GEN_AI_FREQUENCY_PENALTY: sampling.frequency_penalty,
        names.GEN_AI_PRESENCE_PENALTY: sampling.presence_penalty,
    }
    return found if sampling.seed is None else {**found, names.GEN_AI_SEED: sampling.seed}
