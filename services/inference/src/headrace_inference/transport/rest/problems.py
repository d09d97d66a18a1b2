"""Errors as REST tells them: RFC 9457 problem details, with the words that gRPC has for them.

The member `error` repeats the text: clients of the Open Inference Protocol look for it there.
"""

from __future__ import annotations

import json
import logging
import math
import re
import uuid
from http import HTTPStatus
from typing import NamedTuple

from headrace_runtime import errors
from headrace_runtime.errors import HeadraceError
from opentelemetry import trace

logger = logging.getLogger(__name__)

STATUSES: dict[type[BaseException], HTTPStatus] = {
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.FailedPrecondition: HTTPStatus.CONFLICT,
    errors.NotSupported: HTTPStatus.NOT_IMPLEMENTED,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.Unprocessable: HTTPStatus.BAD_REQUEST,
}
"""Status of each branch of the error tree. An error takes that of its nearest ancestor; others are faults of ours."""
RETRY_S = 1.0
"""Seconds after which callers are asked to come again when something is down."""

MOST_DETAIL = 4096
"""Letters of a text beyond which it is cut: it may name what the caller sent."""

Headers = list[tuple[bytes, bytes]]


class SlowRequest(HeadraceError):
    """A request that did not arrive whole in time."""


class Problem(NamedTuple):
    """An answer that tells of an error."""

    status: int
    body: bytes
    headers: Headers


def problem(status: HTTPStatus, detail: str, retry_s: float | None = None, *, close: bool = False) -> Problem:
    """Return the answer that tells of an error; with `retry_s`, when to come again, and with `close`, not here."""
    detail = detail if len(detail) <= MOST_DETAIL else f"{detail[:MOST_DETAIL]} […]"
    told = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail, "error": detail}
    headers = [(b"content-type", b"application/problem+json")]
    if retry_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_s))))
    if close:
        headers.append((b"connection", b"close"))
    return Problem(status, json.dumps(told).encode(), headers)


_OPENAI_TYPES = {
    HTTPStatus.NOT_FOUND: ("invalid_request_error", "model_not_found"),
    HTTPStatus.TOO_MANY_REQUESTS: ("rate_limit_error", "rate_limit_exceeded"),
}
_FIELD = re.compile(r"(?:sampling_parameters: )?([a-z_]+)[\w.\[\]]*: expected ")


def as_openai(told: Problem) -> Problem:
    """Return an answer that tells of an error in the shape that OpenAI's clients read."""
    said = json.loads(told.body)["detail"]
    ours = told.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind, code = _OPENAI_TYPES.get(HTTPStatus(told.status), ("server_error" if ours else "invalid_request_error", None))
    field = None if ours else _FIELD.match(said)
    error = {"message": said, "type": kind, "param": field and field[1], "code": code}
    headers = [each for each in told.headers if each[0] != b"content-type"]
    return Problem(
        told.status, json.dumps({"error": error}).encode(), [(b"content-type", b"application/json"), *headers]
    )


def problem_of(error: Exception, route: str) -> Problem:
    """Return the answer that tells of an error. Of a fault of ours it tells where the log has it, and nothing else."""
    if isinstance(error, SlowRequest):
        return problem(HTTPStatus.REQUEST_TIMEOUT, str(error), close=True)
    for ancestor in type(error).__mro__:
        if ancestor in STATUSES:
            wait_s = error.wait_s if isinstance(error, errors.Overloaded) else None
            retry_s = RETRY_S if ancestor is errors.Unavailable else wait_s
            return problem(STATUSES[ancestor], str(error), retry_s, close=type(error) is errors.TooLarge)
    span = trace.get_current_span().get_span_context()
    known_as = f"trace {span.trace_id:032x}" if span.is_valid else f"reference {uuid.uuid4().hex}"
    logger.error("%s failed, %s", route, known_as, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"internal error, {known_as}")
