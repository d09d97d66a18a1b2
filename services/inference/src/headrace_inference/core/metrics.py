"""What inference tells Prometheus of calls."""

from __future__ import annotations

from functools import lru_cache

from headrace_runtime.telemetry.quick_histogram import QuickHistogram
from prometheus_client import Counter, Gauge

_FAST = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

REQUESTS = Counter(
    "headrace_inference_requests",
    "ModelInfer calls by model, ordinal of the version and outcome; model and version are empty for unknown ones.",
    ("model", "version", "outcome"),
)
DURATION = QuickHistogram(
    "headrace_inference_duration_seconds", "Duration of ModelInfer calls that were answered.", ("model",), _FAST
)
COMPUTE = QuickHistogram(
    "headrace_inference_compute_duration_seconds", "Time in the engine, for one call.", ("model",), _FAST
)
DEGRADED = Counter(
    "headrace_inference_degraded",
    "Calls that were answered under overload by a variant that takes less time than the one that is served.",
    ("model", "variant"),
)
SHARED = Counter(
    "headrace_inference_shared",
    "Calls that were answered with the answer to an equal call, by how: joined while that was on its way, or recent, "
    "from Redis just before.",
    ("model", "how"),
)
CANDIDATE = Counter(
    "headrace_inference_candidate",
    "Calls of a candidate beside the champion, by outcome: answered, or computed in the shadow; failed, not_finite and "
    "skipped, which the champion answered.",
    ("model", "outcome"),
)
ROWS = Counter("headrace_inference_rows", "Rows that were answered.", ("model",))
RECORDS = Counter(
    "headrace_inference_records",
    "Records that were read for a model, by the rule that they break; empty for those that became rows.",
    ("model", "rule"),
)
SCORED = Counter(
    "headrace_inference_records_scored",
    "Records of a topic that got an answer on another, by outcome: answered or rejected.",
    ("pipeline", "outcome"),
)

# What models of language do, by the conventions for generative AI:
# https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-metrics.md
FIRST_TOKEN = QuickHistogram(
    "headrace_gen_ai_server_time_to_first_token_seconds",
    "Time from a call's arrival to the first token of its answer, of models of language.",
    ("model",),
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
EACH_TOKEN = QuickHistogram(
    "headrace_gen_ai_server_time_per_output_token_seconds",
    "Time of each token of an answer after the first, of answers that were whole.",
    ("model",),
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
QUEUE = QuickHistogram(
    "headrace_inference_queue_duration_seconds",
    "Time until the engine of a model of language had taken a prompt in.",
    ("model",),
    _FAST,
)
TOKENS = Counter(
    "headrace_inference_tokens",
    "Tokens of answers that were whole, by kind: input (of the prompt) and output (of the answer).",
    ("model", "token_type"),
)
ANSWERS = Gauge(
    "headrace_inference_answers",
    "Answers of a model of language by state: running, or waiting for their first step.",
    ("model", "state"),
)
ENGINE_FAULTS = Counter(
    "headrace_inference_engine_faults",
    "Ends of the engine of a model of language that nobody asked for; it is started anew each time.",
    ("model",),
)
KEYS_AND_VALUES = Gauge(
    "headrace_inference_cache_used_ratio",
    "Share of a language model's memory for keys and values that is in use.",
    ("model",),
)


class VersionMetrics:
    """The metrics of a version that every call touches, looked up once instead of in each call."""

    def __init__(self, model: str, version: str) -> None:
        self.answered = REQUESTS.labels(model, version, "ok")
        self.duration = DURATION.labels(model)
        self.compute = COMPUTE.labels(model)
        self.rows = ROWS.labels(model)


class LanguageMetrics:
    """The metrics of a model of language that every call touches."""

    def __init__(self, model: str) -> None:
        self.first_token = FIRST_TOKEN.labels(model)
        self.each_token = EACH_TOKEN.labels(model)
        self.queue = QUEUE.labels(model)
        self.prompt_tokens = TOKENS.labels(model, "input")
        self.answer_tokens = TOKENS.labels(model, "output")
        self.running = ANSWERS.labels(model, "running")
        self.waiting = ANSWERS.labels(model, "waiting")
        self.cache_used = KEYS_AND_VALUES.labels(model)
        self.faults = ENGINE_FAULTS.labels(model)


@lru_cache(maxsize=1024)
def of_language(model: str) -> LanguageMetrics:
    """Return the metrics of a model of language."""
    return LanguageMetrics(model)


@lru_cache(maxsize=1024)
def of_version(model: str, ordinal: int) -> VersionMetrics:
    """Return the metrics of a version."""
    return VersionMetrics(model, str(ordinal))
