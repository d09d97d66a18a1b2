"""What inference tells Prometheus of calls."""

from __future__ import annotations

from functools import lru_cache

from headrace_runtime.telemetry.quick_histogram import QuickHistogram
from prometheus_client import Counter

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
    "headrace_inference_compute_duration_seconds", "Time in ONNX Runtime, for one call.", ("model",), _FAST
)
DEGRADED = Counter(
    "headrace_inference_degraded",
    "Calls that were answered under overload by a variant that takes less time than the one that is served.",
    ("model", "variant"),
)
ROWS = Counter("headrace_inference_rows", "Rows that were answered.", ("model",))


class VersionMetrics:
    """The metrics of a version that every call touches, looked up once instead of in each call."""

    def __init__(self, model: str, version: str) -> None:
        self.answered = REQUESTS.labels(model, version, "ok")
        self.duration = DURATION.labels(model)
        self.compute = COMPUTE.labels(model)
        self.rows = ROWS.labels(model)


@lru_cache(maxsize=1024)
def of_version(model: str, ordinal: int) -> VersionMetrics:
    """Return the metrics of a version."""
    return VersionMetrics(model, str(ordinal))
