"""A call as it arrived, and what it is answered with."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass

from headrace_inference.core.generation import Ask, Usage
from headrace_inference.core.shelf import LoadedVersion
from headrace_inference.core.signature import Call
from headrace_inference.core.statistics import VersionStatistics
from headrace_inference.ports import CallContext


@dataclass(slots=True)
class Asked:
    """A call as it arrived, and as much as is known of what it asks for."""

    size_bytes: int
    """Bytes of the request."""
    context: CallContext
    started: float
    """When it came, on the clock of `time.perf_counter`."""
    version: LoadedVersion | None = None
    ask: Ask | None = None
    """What it asks of a model of language."""
    prompt_tokens: int = 0
    """How many tokens its prompt has, once the engine has counted."""
    recorded: Awaitable[None] | None = None
    """What the answer waits for, where it is to be recorded first; raises Unavailable where it cannot be."""


@dataclass(slots=True)
class Answer:
    """What a call is answered with: the version's outputs, as `Serving` was told to write them."""

    version: LoadedVersion
    statistics: VersionStatistics
    rows: int
    asked_outputs: tuple[str, ...]
    outputs: bytes
    cached: bool
    """Whether they are those of an earlier call: kept, or computed while this one waited."""
    prediction_id: str
    usage: Usage | None = None
    """What a model of language took for it."""
    sent: bytes = b""
    """The message that it is, once the transport has told of it."""


def left_of(asked: Asked, call: Call) -> float | None:
    """Return the seconds until the caller stops waiting, None without a limit of time."""
    left_s = asked.context.time_remaining()
    if call.timeout_s is None:
        return left_s
    own_s = call.timeout_s - (time.perf_counter() - asked.started)
    return own_s if left_s is None else min(left_s, own_s)
