"""Records of a topic that are answered on another: in which calls, and how many at a time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_runtime.records import Record

MOST_ROWS: Final = 256
MOST_REFERRING: Final = 16
"""The same, of records that may refer to values in the store: those of one call are fetched before it is read."""
MOST_BYTES: Final = 1024 * 1024
"""Records and bytes of one call: callers wait no longer for it than for each other. A larger record goes alone."""
FIRST: Final = 64
MOST: Final = 4096
"""Messages that are answered in the first transaction, and in any at most."""
MOST_LINES: Final = 10_000
"""Records of messages that have many each which are answered in one transaction; a single message may have so many."""
AIM_S: Final = 1.0
"""What a transaction should take: so much is done once more where a replica dies."""
MOST_ANSWERED_BYTES: Final = 32 * 1024 * 1024
"""What the answers of one transaction should take of memory."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What is to be answered of a pipeline."""

    pipeline: str
    group: str
    """The consumer group that reads the records."""
    model: str
    source: str
    """The topic of the records."""
    answers: str
    """The topic of the answers."""
    has_lines: bool = False
    """Whether a message has many records, on lines."""
    withholds: bool = False
    """Whether an answer goes without the key of its record, and without its headers: there are personal fields."""
    most_rows: int = MOST_ROWS
    """Records of one call at most."""


def calls_of(records: Sequence[Record], rows: int) -> Iterator[Sequence[Record]]:
    """Yield records in calls of at most so many."""
    start, size = 0, 0
    for at, record in enumerate(records):
        more = len(record.value or b"") + len(record.key or b"")
        # Each line of a message has all headers of that.
        more += sum(len(name) + len(value) for name, value in record.headers)
        if at > start and (at - start == rows or size + more > MOST_BYTES):
            yield records[start:at]
            start, size = at, 0
        size += more
    if start < len(records):
        yield records[start:]


class Pace:
    """How many messages are answered in one transaction: as many as take about a second."""

    def __init__(self) -> None:
        self.most = FIRST

    def answered(self, messages: int, took_s: float, size_bytes: int) -> None:
        """Learn from a transaction whose answers have so many bytes."""
        load = max(took_s / AIM_S, size_bytes / MOST_ANSWERED_BYTES)
        if load > 1:
            self.most = max(1, int(min(messages, self.most) / load))
        elif messages >= self.most and load < 1 / 2:
            self.most = min(MOST, 2 * self.most)

    def fits(self, lines: Sequence[int]) -> bool:
        """Return whether messages of so many lines may be answered in one transaction; if not, fewer are tried."""
        if len(lines) < 2 or sum(lines) <= MOST_LINES:
            return True
        self.most = max(1, len(lines) * MOST_LINES // sum(lines))
        return False

    def failed(self) -> None:
        """Learn from one that came to nothing: it may have been too much."""
        self.most = max(1, self.most // 4)
