"""What inference tells Prometheus."""

from __future__ import annotations

from functools import lru_cache

from headrace_runtime.telemetry.quick_histogram import QuickHistogram
from prometheus_client import Counter, Gauge, Histogram

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
ROWS = Counter("headrace_inference_rows", "Rows that were answered.", ("model",))
CACHE = Counter(
    "headrace_inference_cache_lookups",
    "Look-ups of hot predictions by outcome: hit, miss, error, skipped (the cache failed just before), corrupt.",
    ("model", "outcome"),
)
LOADED = Gauge("headrace_inference_loaded_version", "Ordinal of the version served under an alias.", ("model", "alias"))
SWAPS = Counter("headrace_inference_swaps", "Releases that came to be served.", ("model", "alias"))
LOAD_FAILURES = Counter(
    "headrace_inference_load_failures", "Attempts to load a release that failed.", ("model", "alias")
)
PENDING = Gauge(
    "headrace_inference_release_pending",
    "1 while the newest release of an alias is not served: it is being loaded, or does not load.",
    ("model", "alias"),
)
LOAD_DURATION = Histogram(
    "headrace_inference_load_duration_seconds",
    "Time to fetch, load and warm a release.",
    ("model",),
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120),
)


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
