"""How a call ended: what metrics and spans are told of it."""

from __future__ import annotations

from headrace_runtime import errors
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import traceparent
from opentelemetry import trace

from headrace_inference.core.shelf import LoadedVersion

_OUTCOMES: dict[type[BaseException], str] = {
    errors.InvalidInput: "invalid_input",
    errors.NotFound: "not_found",
    errors.Unavailable: "unavailable",
    errors.DeadlineExceeded: "deadline_exceeded",
    errors.Overloaded: "overloaded",
    errors.TooLarge: "invalid_input",
}


def described(version: LoadedVersion, prediction_id: str, rows: int, *, cached: bool) -> str:
    """Give the current span attributes and return its context, empty without one."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attributes(
            {
                names.MODEL: version.release.model,
                names.VERSION_ID: version.release.version_id,
                names.VARIANT: version.release.variant,
                names.PREDICTION_ID: prediction_id,
                names.CACHED: cached,
                names.ROWS: rows,
            }
        )
    return traceparent(current)


def outcome_of(error: BaseException) -> str:
    """Return the name of an outcome."""
    for ancestor in type(error).__mro__:
        if ancestor in _OUTCOMES:
            return _OUTCOMES[ancestor]
    return "internal_error" if isinstance(error, Exception) else "cancelled"
