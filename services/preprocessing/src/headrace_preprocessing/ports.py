"""What preprocessing needs of the outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from google.protobuf.message import Message
from headrace.events.v1.forget_pb2 import ForgettingTopic
from headrace_data.files import Rows
from headrace_data.history import History
from headrace_data.private import Keys
from headrace_data.spec import Pipeline
from headrace_runtime.records import Place, Record


class RowsBetween(Protocol):
    """The rows of a pipeline's clean topic."""

    def __call__(
        self,
        pipeline: str,
        starts: Mapping[Place, int | None],
        ends: Mapping[Place, int],
        stall_s: float,
        read: Callable[[Record], pa.RecordBatch | None],
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a range, in order within each partition; `read` returns those of a message.

        `pipeline` is the name that it alone ever has. Raises Unavailable after `stall_s` seconds without progress.
        """


class Histories(Protocol):
    """The history of one pipeline: what was cut so far."""

    def latest(self, beat: Callable[[], None]) -> History:
        """Return the history as of the last cut that was committed before the call; `beat` is called in between.

        Raises Unavailable when a transaction stays open, and Corrupt and NotFound when its bytes are not to be had.
        """

    def keep(self, history: History) -> Message:
        """Keep a history, and return the message that names it."""


class Retentions(Protocol):
    """How long topics keep the records of a pipeline."""

    def __call__(self, written_s: float, specs: Sequence[Pipeline]) -> Sequence[ForgettingTopic]:
        """Return where records lie that were written before a time (seconds since 1970), and until when.

        `specs` are all that the pipeline ever was.
        """


class TopicRanges(Protocol):
    """Topics that no pipeline need read."""

    def of(self, topic: str, start_ms: int | None, end_ms: int) -> tuple[str, dict[int, tuple[int, int]]]:
        """Return a topic's id, and by partition the offsets between two moments: first and behind the last.

        Moments are in milliseconds since 1970; None stands for the beginning. Raises NotFound without such a topic.
        """

    def rows(self, topic: str, partition: int, start: int, end: int) -> Iterator[Rows]:
        """Yield the records of a range in order, in pieces that do not depend on how they arrive."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a freezer reads, and keeps what it knows in."""

    rows_between: RowsBetween
    histories: Histories
    topics: TopicRanges
    keys: Keys
    """Keys of personal fields, by name. They raise Unavailable where there is none."""
    retentions: Retentions
    """When topics have forgotten what was written before a time."""
