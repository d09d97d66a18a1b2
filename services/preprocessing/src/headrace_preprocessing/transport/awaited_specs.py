"""Which messages must wait for a spec that this instance has not taken in yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from headrace.events.v1 import record_pb2
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.records import Record

KNOWN_FOR_S = 1.0
"""How long a digest stays known as an older one: the spec of that digest may be applied once more."""


@dataclass(frozen=True, slots=True)
class _Question:
    answered: threading.Event
    asked_s: float


class AwaitedSpecs:
    """Tells messages of the spec in force, and of older ones, from those of a spec that was applied a moment ago.

    Whoever wrote a message had seen its spec applied. So once everything is seen that was applied up to now, and the
    spec in force is still the same, the message's is an older one.
    """

    def __init__(
        self, digest: str, ask: Callable[[], threading.Event], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`ask` returns an event that is set once everything applied before was taken in; that may replace this."""
        self._digest = digest
        self._ask = ask
        self._clock = clock
        self._questions: dict[str, _Question] = {}

    def ready(self, records: Sequence[Record]) -> bool:
        """Tell whether none of these messages of a raw topic has to wait."""
        return self.known(set(map(_digest, records)))

    def known(self, digests: Collection[str]) -> bool:
        """Tell whether none of these specs was applied after the one in force here."""
        return not [digest for digest in digests if self._is_ahead(digest)]

    def _is_ahead(self, digest: str) -> bool:
        if digest in ("", self._digest):
            return False
        question = self._questions.get(digest)
        if question is None or (question.answered.is_set() and self._clock() - question.asked_s > KNOWN_FOR_S):
            self._questions[digest] = question = _Question(self._ask(), self._clock())
        return not question.answered.is_set()


def _digest(record: Record) -> str:
    try:
        return decode(record, record_pb2.RecordBatch).spec_digest
    except Unprocessable:
        return ""
