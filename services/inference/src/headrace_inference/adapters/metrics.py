"""What inference tells Prometheus of releases and hot predictions; of calls, see `core.metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CACHE = Counter(
    "headrace_inference_cache_lookups",
    "Look-ups of hot predictions by outcome: hit, miss, error, skipped (the cache failed just before), corrupt.",
    ("model", "outcome"),
)
HIT_COST = Gauge(
    "headrace_inference_cache_hit_cpu_seconds",
    "CPU of a hot prediction from Redis as this replica measured it, where the pipeline leaves it to the replica.",
    ("model", "variant"),
)
MODEL_COST = Gauge(
    "headrace_inference_model_cpu_seconds", "CPU of the model for one row, measured beside it.", ("model", "variant")
)
PAYS = Gauge(
    "headrace_inference_cache_pays",
    "1 where a hit costs at most half of what the model does, so that hot predictions are kept in Redis; else 0.",
    ("model", "variant"),
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
