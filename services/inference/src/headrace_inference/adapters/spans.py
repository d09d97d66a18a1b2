"""Spans within a call, at no cost for calls that are not traced."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from headrace_runtime.telemetry.traces import tracer
from opentelemetry import trace


def child_span(name: str) -> AbstractContextManager[Any]:
    """Return a context that is a child of the current span; one that does nothing (None) when that is not recorded."""
    if trace.get_current_span().is_recording():
        return tracer.start_as_current_span(name)
    return nullcontext()


def traceparent(span: trace.Span) -> str:
    """Return a span's context as W3C `traceparent`; empty when it has none, as where calls are not traced."""
    own = span.get_span_context()
    return "" if not own.is_valid else f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
