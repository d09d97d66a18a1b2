"""Telemetry of REST calls: a server span that continues the caller's trace, and the duration."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from headrace_runtime.telemetry.quick_histogram import QuickHistogram
from headrace_runtime.telemetry.setup import records_new_trace
from headrace_runtime.telemetry.traces import extract, recorded_by_caller, tracer
from opentelemetry import context as otel_context
from opentelemetry import trace
from starlette.responses import Response

DURATION = QuickHistogram(
    "headrace_http_server_request_duration_seconds",
    "Duration of REST calls, from their head to their answer (http.server.request.duration).",
    ("http_route", "http_request_method", "http_response_status_code"),
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
_SILENT = "/v2/health/"
_FAULTS = 500
GONE = "499"
"""Status of calls whose caller left."""


class Seen:
    """One call as telemetry sees it."""

    status = GONE

    def ends_with(self, response: Response) -> Response:
        """Take note of the answer, and return it."""
        self.status = str(response.status_code)
        return response


@contextmanager
def observed(method: str, route: str, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[Seen]:
    """Observe a call; traced where its caller records the trace, or a new one is to be recorded."""
    seen, started = Seen(), time.perf_counter()
    told = [(name.decode("latin-1"), value) for name, value in headers]
    of_caller = recorded_by_caller(told)
    recorded = not route.startswith(_SILENT) and (records_new_trace() if of_caller is None else of_caller)
    try:
        if recorded:
            with _span(method, route, told, seen):
                yield seen
        else:
            yield seen
    finally:
        DURATION.labels(route, method, seen.status).observe(time.perf_counter() - started)


@contextmanager
def _span(method: str, route: str, headers: Sequence[tuple[str, bytes]], seen: Seen) -> Iterator[None]:
    attributes: dict[str, Any] = {"http.request.method": method, "http.route": route}
    span = tracer.start_span(f"{method} {route}", extract(headers), trace.SpanKind.SERVER, attributes)
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)
        span.set_attribute("http.response.status_code", int(seen.status))
        if int(seen.status) >= _FAULTS:
            span.set_status(trace.StatusCode.ERROR, seen.status)
        span.end()
