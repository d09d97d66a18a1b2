"""The producers' records, and the dead letters of those that were rejected."""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace_runtime.errors import NotFound
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.away import CALL_BOOTSTRAP_MS, kafka_answering
from headrace_runtime.record_topics import dead_topic
from headrace_runtime.records import Place
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.stream.dead_letters import DeadLetter, read_letter

from headrace_model_registry.core.fate import RecordPlace, RecordRejection


class KafkaRecords:
    """Opens a reader for each call: calls are rare, come from several threads, and must not keep connections.

    Every method raises Unavailable when Kafka does not answer.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def bounds_of(self, topic: str, partition: int) -> tuple[int, int] | None:
        """Return the first offset that is still there and the one behind the last committed record.

        None when there is no such partition.
        """
        place = (topic, partition)
        with self._reader() as reader:
            if place not in _partitions(reader, topic):
                return None
            return reader.beginnings([place])[place], reader.ends([place])[place]

    def rejection_of(self, pipeline: str, place: RecordPlace, partition: int | None = None) -> RecordRejection | None:
        """Return why a record was last rejected in a pipeline, None when no dead letter tells.

        A dead letter lies in the partition with its record's number, or in this one. That one is read whole.
        """
        dead = (dead_topic(pipeline), place.partition if partition is None else partition)
        found: DeadLetter | None = None
        with self._reader() as reader:
            if dead not in _partitions(reader, dead[0]):
                return None
            reader.start_at({dead: None})
            for records in reader.read_to(reader.ends([dead])):
                letters = (read_letter(record).letter for record in reversed(records))
                found = next((letter for letter in letters if _is_of(letter, place)), found)
        return RecordRejection(found.stage, found.rule, found.field, found.reason) if found else None

    @contextmanager
    def _reader(self) -> Iterator[LogReader]:
        with (
            kafka_answering(self._settings, "records cannot be looked at"),
            LogReader(self._settings, "registry.records", CALL_BOOTSTRAP_MS) as reader,
        ):
            yield reader


def _partitions(reader: LogReader, topic: str) -> list[Place]:
    try:
        return reader.partitions(topic)
    except NotFound:
        return []


def _is_of(letter: DeadLetter, place: RecordPlace) -> bool:
    return letter.holds(place.topic, place.partition, place.offset)
