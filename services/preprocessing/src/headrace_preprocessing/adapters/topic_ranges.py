"""Any topic of the cluster, read between two moments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headrace_data.files import AT_ONCE, Rows
from headrace_data.records import message_times
from headrace_runtime.errors import FailedPrecondition
from headrace_runtime.kafka import Admin, LogReader
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings
from kafka.errors import TopicAuthorizationFailedError

_NAME = "preprocessing.backfill"


@dataclass(frozen=True)
class TopicRanges:
    """Reads what is committed in other topics than the pipeline's."""

    settings: KafkaSettings
    stall_s: float

    def of(self, topic: str, start_ms: int | None, end_ms: int) -> tuple[str, dict[int, tuple[int, int]]]:
        """Return a topic's id, and by partition the offsets between two moments: first and behind the last.

        Moments are in milliseconds since 1970; None stands for the beginning. Raises NotFound without such a topic,
        and FailedPrecondition where the cluster does not let it be read.
        """
        with _allowed(topic), LogReader(self.settings, _NAME) as reader:
            places = reader.partitions(topic)
            starts, ends = reader.beginnings(places), reader.ends(places)
            firsts = reader.offsets_at(dict.fromkeys(places, start_ms)) if start_ms is not None else dict(starts)
            behind = reader.offsets_at(dict.fromkeys(places, end_ms))
        with Admin(self.settings, _NAME) as admin:
            topic_id = admin.topic_id(topic)
        return topic_id, {
            place[1]: _bounds(firsts[place], behind[place], starts[place], ends[place]) for place in places
        }

    def rows(self, topic: str, partition: int, start: int, end: int) -> Iterator[Rows]:
        """Yield the records of a range, `AT_ONCE` of them at a time however they arrive."""
        place: Place = (topic, partition)
        waiting: list[Record] = []
        with _allowed(topic), LogReader(self.settings, _NAME) as reader:
            reader.start_at({place: start})
            for records in reader.read_to({place: end}, self.stall_s):
                waiting += records
                while len(waiting) >= AT_ONCE:
                    yield _rows(waiting[:AT_ONCE])
                    waiting = waiting[AT_ONCE:]
        if waiting:
            yield _rows(waiting)


@contextmanager
def _allowed(topic: str) -> Iterator[None]:
    try:
        yield
    except TopicAuthorizationFailedError as error:
        raise FailedPrecondition(
            f"topic {topic} cannot be read: preprocessing needs the operation Read on it"
        ) from error


def _bounds(first: int | None, behind: int | None, start: int, end: int) -> tuple[int, int]:
    # There is none from a moment on: all records are older.
    first, behind = end if first is None else first, end if behind is None else behind
    return max(first, start), max(first, start, min(behind, end))


def _rows(records: list[Record]) -> Rows:
    return Rows(
        [record.offset for record in records],
        [record.value for record in records],
        message_times([record.timestamp_ms for record in records]),
        messages=records,
    )
