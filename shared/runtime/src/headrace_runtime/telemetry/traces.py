"""Trace context in Kafka headers and gRPC metadata, as W3C `traceparent` and `tracestate`, and the tracer of all spans.

It needs OpenTelemetry's API alone: without `setup.configure` nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headrace_runtime.telemetry import names

_PROPAGATOR = TraceContextTextMapPropagator()
_CONTEXT_HEADERS = frozenset(_PROPAGATOR.fields)
MAX_LINKS = 32
"""Links that one span carries at most; its batch count attribute tells how many messages there were."""
MAX_CONTEXT_BYTES = 512
"""What `traceparent` and `tracestate` have at most: anybody may send more."""

tracer = trace.get_tracer("headrace")
"""The tracer of every Headrace span; silent until `setup.configure` was called."""


def inject(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return a copy of Kafka headers with the current trace context in place of any older one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    kept = [(name, value) for name, value in headers if name not in _CONTEXT_HEADERS]
    return kept + [(name, value.encode()) for name, value in carrier.items()]


def extract(headers: Iterable[tuple[str, bytes | str]]) -> otel_context.Context:
    """Return the trace context of Kafka headers or gRPC metadata; an empty one when there is none."""
    carrier = {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in headers
        if name in _CONTEXT_HEADERS
    }
    return _PROPAGATOR.extract(carrier, context=otel_context.Context())


def context_of(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the headers among these that are a trace context: the last of each name, and none of absurd size."""
    found = {name: value for name, value in headers if name in _CONTEXT_HEADERS and len(value) <= MAX_CONTEXT_BYTES}
    return list(found.items())


def links_to(headers_of_many: Iterable[Iterable[tuple[str, bytes]]]) -> list[trace.Link]:
    """Return links to the distinct creation contexts of a batch of messages, MAX_LINKS at most."""
    links: dict[int, trace.Link] = {}
    read: set[tuple[tuple[str, bytes], ...]] = set()
    for headers in filter(None, headers_of_many):
        context = tuple(header for header in headers if header[0] in _CONTEXT_HEADERS)
        if not context or context in read:
            continue
        read.add(context)
        span_context = trace.get_current_span(extract(context)).get_span_context()
        if span_context.is_valid:
            links[span_context.span_id] = trace.Link(span_context)
        if len(links) == MAX_LINKS:
            break
    return list(links.values())


def child_span(name: str) -> AbstractContextManager[Any]:
    """Return a context that is a child of the current span; one that does nothing (None) when that is not recorded."""
    if trace.get_current_span().is_recording():
        return tracer.start_as_current_span(name)
    return nullcontext()


def traceparent(span: trace.Span) -> str:
    """Return a span's context as W3C `traceparent`; empty when it has none, as where calls are not traced."""
    own = span.get_span_context()
    return "" if not own.is_valid else f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"


def process_attributes(topic: str, group: str, count: int) -> dict[str, str | int]:
    """Return the attributes of a span that processes `count` messages of a topic for a consumer group."""
    return {
        names.MESSAGING_SYSTEM: "kafka",
        names.MESSAGING_OPERATION: names.SPAN_PROCESS,
        names.MESSAGING_DESTINATION: topic,
        names.MESSAGING_GROUP: group,
        names.MESSAGING_BATCH_COUNT: count,
    }


def recorded_by_caller(headers: Iterable[tuple[str, Any]]) -> bool | None:
    """Return whether the caller records the trace that gRPC metadata continues; None when it continues none."""
    told = [header for header in headers if header[0] in _CONTEXT_HEADERS]
    if not told:
        return None
    context = trace.get_current_span(extract(told)).get_span_context()
    return context.trace_flags.sampled if context.is_valid else None
