"""Answers that came from Redis just now, by the bytes of their requests: what is asked all the time is not asked there.

A look-up in Redis costs a request that is read and checked, a key, and the way to the event loop, to Redis and back.
The bytes of a request decide on all of it, so equal bytes that come soon after each other get the same answer at once,
in the thread in which they arrive. What is kept for so short a time does not outlive its place in Redis by much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from headrace_inference.core.asked import Answer
from headrace_inference.core.signature import Call

KEPT_S = 2.0
"""Seconds for which an answer is kept."""
LARGEST_BYTES = 64 * 1024
"""Largest request and answer, together: looking larger ones up costs time in which others wait."""
_BESIDE_BYTES = 512
"""What an answer takes beside its bytes."""


@dataclass(frozen=True, slots=True)
class RecentAnswer:
    """An answer without what is new in each: the prediction's id."""

    asked: tuple[str, str]
    """Model and version as the caller named them."""
    prefix: bytes
    """The prefix of the version that answered."""
    rows: int
    outputs: tuple[str, ...]
    part: bytes
    """The outputs as they were sent."""
    id: str
    """The caller's own."""
    ends_s: float
    size_bytes: int


class RecentAnswers:
    """Keeps at most `most_bytes`. Used by several threads."""

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._lock = Lock()
        self._bytes = 0
        self._answers: dict[bytes, RecentAnswer] = {}

    def find(self, request: bytes) -> RecentAnswer | None:
        """Return the answer to a request with the same bytes."""
        found = self._answers.get(request) if self._answers and len(request) <= LARGEST_BYTES else None
        return found if found is not None and self._clock() < found.ends_s else None

    def keep(self, request: bytes, call: Call, answer: Answer, part: bytes, ttl_s: float) -> None:
        """Keep an answer that came from Redis, where answers are kept for `ttl_s` (0: as long as the replica says)."""
        size_bytes = len(request) + len(part)
        if size_bytes > LARGEST_BYTES or not self._most_bytes:
            return
        now_s, size_bytes = self._clock(), size_bytes + _BESIDE_BYTES
        ends_s = now_s + min(KEPT_S, ttl_s or KEPT_S)
        asked = (call.model, call.version)
        kept = RecentAnswer(
            asked, answer.version.prefix, answer.rows, answer.asked_outputs, part, call.id, ends_s, size_bytes
        )
        with self._lock:
            self._drop(request)
            self._answers[request] = kept
            self._bytes += size_bytes
            # The oldest come first, and end first but for those that are kept for less.
            while self._answers and self._goes(oldest := next(iter(self._answers)), now_s):
                self._drop(oldest)

    def _goes(self, oldest: bytes, now_s: float) -> bool:
        return self._bytes > self._most_bytes or self._answers[oldest].ends_s <= now_s

    def _drop(self, request: bytes) -> None:
        dropped = self._answers.pop(request, None)
        if dropped is not None:
            self._bytes -= dropped.size_bytes
