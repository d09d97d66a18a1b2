"""What ingestion needs of the outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from headrace.events.v1.record_pb2 import PushAccepted
    from headrace_runtime.kafka import Transaction
    from headrace_runtime.records import Record
    from headrace_runtime.stream.dead_letters import StoredLetter


class Accepted(Protocol):
    """What was accepted beside the producers' topics: every answered batch id, and the one way to write new ones."""

    def writer(self) -> AbstractContextManager[Transaction]:
        """Open a transaction as the only writer. Call `answer` in it before anything is written.

        Raises Fenced when another instance took over; then nothing was written and another try may succeed. Raises
        Unavailable when the brokers do not answer; whether it was written then, the next writer finds out.
        """

    def answer(self, pipeline: str, batch_id: str) -> PushAccepted | None:
        """Return the answer that this batch got, None when it is new or its answer was forgotten."""

    def remember(self, accepted: PushAccepted) -> None:
        """Keep an answer whose transaction was committed."""


class DeadLetters(Protocol):
    """The dead letters of one pipeline, and the producers' messages that they name."""

    def letters(self, place: tuple[int, int] | None = None) -> Iterator[list[StoredLetter]]:
        """Yield the letters that are there now, oldest first within each partition; at a place, that one or none.

        Raises Unavailable when the brokers cannot be reached.
        """

    def sent(self, topic: str, partition: int, offset: int) -> Record | None:
        """Return what stands at a place of a producers' topic; None when it is no longer there."""


OpenDeadLetters = Callable[[str], AbstractContextManager[DeadLetters]]
"""Opens the dead letters of a pipeline, by the name that it alone ever has."""
