"""Predictions that were served: looked up where Kafka keeps them, and never recorded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnsweredRelease:
    """A release of the model."""

    alias: str
    epoch: int


@dataclass(frozen=True, slots=True)
class LargeParts:
    """Digests of a request or a response that was too large to keep; empty where it was not."""

    request_digest: str = ""
    response_digest: str = ""


@dataclass(frozen=True, slots=True)
class PredictionServed:
    """One answered call. `response` and `request` are serialised messages, empty when they were too large to keep."""

    prediction_id: str
    model: str
    version_id: str
    variant: str
    rows: int = 1
    cached: bool = False
    duration_us: int = 0
    response: bytes = b""
    request: bytes = b""
    traceparent: str = ""
    release: AnsweredRelease | None = None
    large: LargeParts | None = None
