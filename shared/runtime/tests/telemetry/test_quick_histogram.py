from __future__ import annotations

import random
from typing import Any

from headrace_runtime.telemetry.quick_histogram import QuickHistogram
from headrace_runtime.telemetry.setup import RootSampler
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased
from prometheus_client import CollectorRegistry, Histogram, generate_latest

BUCKETS = (0.001, 0.01, 0.1)


def _lines(registry: CollectorRegistry) -> set[bytes]:
    return {line for line in generate_latest(registry).splitlines() if b"_created" not in line}


def test_a_scrape_cannot_tell_it_from_that_of_prometheus() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    quick = QuickHistogram("calls_seconds", "Calls.", ("model",), BUCKETS, ours)
    slow = Histogram("calls_seconds", "Calls.", ("model",), buckets=BUCKETS, registry=theirs)
    values = random.Random(1)
    for _ in range(500):
        model, value = values.choice(["a", "b"]), values.choice([0.001, 0.01, values.random() * 0.2])
        quick.labels(model).observe(value)
        slow.labels(model).observe(value)

    assert _lines(ours) == _lines(theirs)
    assert ours.get_sample_value("calls_seconds_count", {"model": "a"})


def test_a_trace_that_was_chosen_is_recorded_and_no_other() -> None:
    sampler = RootSampler(0.5)
    tracer = TracerProvider(sampler=ParentBased(sampler)).get_tracer("test")
    chosen = 0
    for _ in range(400):
        if sampler.choose():
            chosen += 1
            assert tracer.start_span("call").is_recording()
    assert 100 < chosen < 300
    # Whoever does not ask before is chosen by the ratio as well.
    assert 100 < sum(tracer.start_span("call").is_recording() for _ in range(400)) < 300


def test_nothing_and_everything_can_be_chosen() -> None:
    never: Any = RootSampler(0.0)
    always: Any = RootSampler(1.0)
    assert not any(never.choose() for _ in range(100))
    assert all(always.choose() for _ in range(100))
    assert not any(RootSampler(1.0, kept=False).choose() for _ in range(100))
