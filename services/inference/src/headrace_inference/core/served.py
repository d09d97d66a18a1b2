"""What was served: one answered call."""

from __future__ import annotations

from typing import NamedTuple

from headrace_inference.core.releases import Release


class Served(NamedTuple):
    """One answered call, with the bytes that came and went."""

    release: Release
    prediction_id: str
    rows: int
    cached: bool
    duration_s: float
    """Seconds from the request's arrival to the answer."""
    request: bytes
    answer: bytes
    traceparent: str
    """W3C trace context of the call, empty without one."""
