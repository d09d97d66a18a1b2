"""Telemetry of gRPC calls: a server span that continues the caller's trace, and the duration."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace

from headrace_runtime.rpc.call import Call
from headrace_runtime.rpc.interceptor import CallInterceptor
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.quick_histogram import QuickHistogram
from headrace_runtime.telemetry.setup import record_new_trace, records_new_trace
from headrace_runtime.telemetry.traces import extract, recorded_by_caller, tracer

if TYPE_CHECKING:
    from headrace_runtime.rpc.methods import InlineMethod

CALL_DURATION = QuickHistogram(
    "headrace_rpc_server_call_duration_seconds",
    "Duration of gRPC calls from the method's start to its end (rpc.server.call.duration).",
    ("rpc_service", "rpc_method", "rpc_status_code"),
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)

_SILENT = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class TelemetryInterceptor(CallInterceptor):
    """Opens a server span for every call, and measures its duration. Health and reflection are left out.

    The attributes, and the status codes that count as errors, follow the OpenTelemetry semantic conventions for gRPC.
    """

    def __init__(self) -> None:
        self._methods: dict[str, _Method] = {}
        self.calls = 0
        """Number of calls so far, without health and reflection. Two threads count without a lock, so the number grows
        but may miss some calls."""

    def around(self, method: str, context: Call) -> AbstractAsyncContextManager[None]:
        """Return a context manager that observes one call."""
        observed = self._observed(method)
        if observed.silent:
            return _Nothing()
        self.calls += 1
        return _Observed(observed, context)

    def surround(self, method: str, behaviour: Any) -> Callable[[Any, Any], Any]:
        """Return the method with telemetry. A call whose trace is not recorded costs little more than its duration."""
        full, observed = super().surround(method, behaviour), self._observed(method)
        if observed.silent or not inspect.iscoroutinefunction(behaviour):
            return full

        async def answer(request: Any, context: Call) -> Any:
            if _is_recorded(context):
                return await full(request, context)
            self.calls += 1
            started = time.perf_counter()
            try:
                response = await behaviour(request, context)
            except BaseException as error:
                observed.ended(context, error, started)
                raise
            observed.ended(context, None, started)
            return response

        return answer

    def surround_inline(self, method: str, behaviour: InlineMethod) -> InlineMethod:
        """Return the inline form with telemetry. It returns None for calls whose trace is recorded."""
        observed = self._observed(method)

        def answer(request: bytes, context: Call) -> bytes | None:
            started = time.perf_counter()
            if _is_recorded(context):
                return None
            try:
                response = behaviour(request, context)
            except BaseException as error:
                self.calls += 1
                observed.ended(context, error, started)
                raise
            if response is not None:
                self.calls += 1
                observed.ended(context, None, started)
            return response

        return answer

    def _observed(self, method: str) -> _Method:
        observed = self._methods.get(method)
        if observed is None:
            observed = self._methods[method] = _Method(method)
        return observed


class _Method:
    """The telemetry data shared by all calls of a method."""

    def __init__(self, path: str) -> None:
        service, _, name = path.lstrip("/").rpartition("/")
        self.span_name = f"{service}/{name}"
        self.silent = path.startswith(_SILENT)
        self.attributes = {names.RPC_SYSTEM: "grpc", names.RPC_SERVICE: service, names.RPC_METHOD: name}
        self._durations = {code: CALL_DURATION.labels(service, name, code.name) for code in grpc.StatusCode}

    def ended(self, call: Call, error: BaseException | None, started_s: float) -> grpc.StatusCode:
        """Record the duration of a call that began at `started_s`. Return its status code."""
        code = _code(call, error)
        self._durations[code].observe(time.perf_counter() - started_s)
        return code


def _is_recorded(call: Call) -> bool:
    """Return whether a call's trace is recorded. The first decision holds for the whole call."""
    if call.recorded is None:
        # Service meshes add a trace context to every call. Its flags say that few of the calls are recorded.
        of_caller = recorded_by_caller(call.metadata)
        call.recorded = records_new_trace() if of_caller is None else of_caller
    elif call.recorded and recorded_by_caller(call.metadata) is None:
        record_new_trace()  # set it in this thread too: another one decided
    return call.recorded


class _Nothing(AbstractAsyncContextManager[None]):
    __slots__ = ()

    async def __aexit__(self, *_ended: object) -> None:
        return None


class _Observed(AbstractAsyncContextManager[None]):
    __slots__ = ("_context", "_method", "_span", "_started", "_token")

    def __init__(self, method: _Method, context: Call) -> None:
        self._method = method
        self._context = context

    async def __aenter__(self) -> None:
        self._started = time.perf_counter()
        self._span = tracer.start_span(
            self._method.span_name,
            context=extract(self._context.metadata),
            kind=trace.SpanKind.SERVER,
            attributes=self._method.attributes,
        )
        self._token = otel_context.attach(trace.set_span_in_context(self._span))

    async def __aexit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> None:
        # A stream cancelled by its caller is closed in another task. The token is not valid in that task's context.
        if not isinstance(error, GeneratorExit):
            otel_context.detach(self._token)
        code = self._method.ended(self._context, error, self._started)
        self._span.set_attribute(names.RPC_STATUS, code.value[0])
        if code in _SERVER_FAULTS:
            self._span.set_status(trace.StatusCode.ERROR, code.name)
        self._span.end()


def _code(call: Call, error: BaseException | None) -> grpc.StatusCode:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return grpc.StatusCode.CANCELLED
    return call.code() or (grpc.StatusCode.OK if error is None else grpc.StatusCode.UNKNOWN)
