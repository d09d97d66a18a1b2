"""The statuses of errors for gRPC callers: a table of the error tree, and the interceptor that applies it."""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Never

import grpc
from opentelemetry import trace
from prometheus_client import Counter

from headrace_runtime import errors
from headrace_runtime.rpc.call import Aborted, Call
from headrace_runtime.rpc.interceptor import CallInterceptor

if TYPE_CHECKING:
    from headrace_runtime.rpc.methods import InlineMethod

logger = logging.getLogger(__name__)

STATUS_CODES: dict[type[Exception], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotSupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unprocessable: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Corrupt: grpc.StatusCode.DATA_LOSS,
}
"""Status code of each branch of the error tree. An error takes the code of its nearest ancestor in this table."""

RETRY_S = 1.0
"""Seconds that clients with automatic retries are asked to wait after UNAVAILABLE."""


REFUSED = Counter(
    "headrace_rpc_server_calls_refused_total",
    "Calls that were refused for what the server has to do or to hold: late, overloaded, unfinished, or streams.",
    ("reason",),
)


def pushback(wait_s: float) -> tuple[tuple[str, str], ...]:
    """Return trailing metadata that asks clients with automatic retries to wait `wait_s` seconds first."""
    return (("grpc-retry-pushback-ms", str(max(1, round(wait_s * 1e3)))),)


def status_of(error: BaseException) -> grpc.StatusCode | None:
    """Return the status code of an error of the tree. None means that callers must not see the error's text."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUS_CODES:
            return STATUS_CODES[ancestor]
    return None


class ErrorInterceptor(CallInterceptor):
    """Ends a call with the status of the error that its method raised.

    An error of the tree keeps its message. Any other error becomes INTERNAL, and its message holds only the trace id,
    or a reference when the trace is not recorded. The log shows the same id with the traceback. Metadata set by the
    method is sent with the status.
    """

    def around(self, method: str, context: Call) -> AbstractAsyncContextManager[None]:
        """Return a context manager that turns the error of a call into its status."""
        return _Translated(method, context)

    def surround_inline(self, method: str, behaviour: InlineMethod) -> InlineMethod:
        """Return the inline form of a method, with errors turned into statuses."""

        def answer(request: bytes, context: Call) -> bytes | None:
            try:
                return behaviour(request, context)
            except Aborted:
                raise
            except Exception as error:
                _fail(method, error, context)

        return answer

    def surround(self, method: str, behaviour: Any) -> Callable[[Any, Any], Any]:
        """Return the method, with errors turned into statuses. Calls without an error have no extra cost."""
        if not inspect.iscoroutinefunction(behaviour):
            return super().surround(method, behaviour)

        async def answer(request: Any, context: Call) -> Any:
            try:
                return await behaviour(request, context)
            except Aborted:
                raise
            except Exception as error:
                _fail(method, error, context)

        return answer


class _Translated(AbstractAsyncContextManager[None]):
    __slots__ = ("_context", "_method")

    def __init__(self, method: str, context: Call) -> None:
        self._method = method
        self._context = context

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, Aborted):
            _fail(self._method, error, self._context)


def _fail(method: str, error: Exception, call: Call) -> Never:
    code = status_of(error)
    message = str(error)
    if code is None:
        code = grpc.StatusCode.INTERNAL
        span = trace.get_current_span().get_span_context()
        # A call that is not recorded has no trace. The reference leads the caller to the log entry.
        known_as = f"trace {span.trace_id:032x}" if span.is_valid else f"reference {uuid.uuid4().hex}"
        logger.error("%s failed, %s", method, known_as, exc_info=error)
        message = f"internal error, {known_as}"
    if isinstance(error, errors.Overloaded):
        call.fail(code, message, (*call.trailing, *pushback(error.wait_s)))
    metadata = (*call.trailing, *pushback(RETRY_S)) if code is grpc.StatusCode.UNAVAILABLE else call.trailing
    call.fail(code, message, metadata)
