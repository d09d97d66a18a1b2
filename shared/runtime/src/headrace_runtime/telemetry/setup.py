"""Traces and metrics of one process; logs are in `logs`.

Spans go to JSON lines when a folder is set and to OTLP when an endpoint is.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, SamplingResult, TraceIdRatioBased
from prometheus_client import start_http_server

from headrace_runtime.errors import Unavailable
from headrace_runtime.telemetry.hold import HoldSpans
from headrace_runtime.telemetry.logs import configure_logging
from headrace_runtime.telemetry.span_files import JsonLinesExporter

if TYPE_CHECKING:
    from headrace_runtime.settings import TelemetrySettings


class RootSampler(TraceIdRatioBased):
    """Chooses which new traces are recorded. Who would rather not begin a span asks before."""

    def __init__(self, ratio: float, *, kept: bool = True) -> None:
        """Choose this share of traces; where spans are not `kept` anywhere, who asks is told not to begin one."""
        super().__init__(ratio)
        self._kept = kept
        self._chosen = threading.local()

    def choose(self) -> bool:
        """Return whether the next trace that this thread begins is recorded; if so, it is."""
        self._chosen.next = self._kept and random.random() < self.rate  # noqa: S311 - a choice, not a secret
        return bool(self._chosen.next)

    def record(self) -> None:
        """Record the next trace that this thread begins."""
        self._chosen.next = True

    def should_sample(self, *arguments: Any, **options: Any) -> SamplingResult:
        """Return the choice that was made before, or make one."""
        if getattr(self._chosen, "next", False):
            self._chosen.next = False
            return ALWAYS_ON.should_sample(*arguments, **options)
        return super().should_sample(*arguments, **options)


class _Choice:
    sampler: RootSampler | None = None


_choice = _Choice()


def records_new_trace() -> bool:
    """Return whether a trace that this thread begins now is recorded; always before `configure`."""
    return _choice.sampler is None or _choice.sampler.choose()


def record_new_trace() -> None:
    """Record the trace that this thread begins now: `records_new_trace` said so in another thread."""
    if _choice.sampler is not None:
        _choice.sampler.record()


class Telemetry:
    """What `configure` started, to be closed at the very end."""

    def __init__(self, provider: TracerProvider, close_metrics: Callable[[], None]) -> None:
        self._provider = provider
        self._close_metrics = close_metrics

    def close(self) -> None:
        """Send what is left and stop the metrics endpoint."""
        self._provider.shutdown()
        self._close_metrics()


def configure(service: str, settings: TelemetrySettings, instance: str = "0") -> Telemetry:
    """Start traces, metrics and logs for this process. Raises Unavailable when the metrics address is taken."""
    configure_logging(settings.log_level)
    resource = Resource.create(
        {"service.name": service, "service.namespace": "headrace", "service.instance.id": instance}
    )
    kept = any((settings.telemetry_dir, settings.otlp_endpoint, settings.hold_dir))
    _choice.sampler = RootSampler(settings.trace_sample_ratio, kept=kept)
    provider = TracerProvider(sampler=ParentBased(_choice.sampler), resource=resource)
    if settings.hold_dir is not None:
        provider.add_span_processor(HoldSpans(settings.hold_dir / service))
    if settings.telemetry_dir is not None:
        exporter = JsonLinesExporter(settings.telemetry_dir / f"{service}-{instance}.jsonl")
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=200))
    if settings.otlp_endpoint is not None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
    trace.set_tracer_provider(provider)
    return Telemetry(provider, _serve_metrics(settings.metrics_address))


def _serve_metrics(address: str) -> Callable[[], None]:
    """Serve metrics at an address, nowhere when that is empty, and return what ends it."""
    if not address:
        return lambda: None
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host)
    except OSError as error:
        raise Unavailable(f"cannot serve metrics on {address} (HEADRACE_METRICS_ADDRESS): {error.strerror}") from error

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close
