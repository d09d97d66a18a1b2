"""The producers' records, and the dead letters of those that were rejected."""

from headrace_runtime.errors import NotFound
from headrace_runtime.kafka import LogReader
from headrace_runtime.messages import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import dead_topic

from headrace_model_registry.core.fate import RecordPlace, RecordRejection


class KafkaRecords:
    """Opens a reader for each call: calls are rare, come from several threads, and must not keep connections."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def end_of(self, topic: str, partition: int) -> int | None:
        """Return the offset behind the last committed record, None when there is no such partition."""
        place = (topic, partition)
        with self._reader() as reader:
            return reader.ends([place])[place] if place in _partitions(reader, topic) else None

    def rejection_of(self, pipeline: str, place: RecordPlace) -> RecordRejection | None:
        """Return why a record was last rejected in a pipeline, None when no dead letter tells.

        A dead letter lies in the partition with its record's number. That one is read whole.
        """
        dead = (dead_topic(pipeline), place.partition)
        letter: Record | None = None
        with self._reader() as reader:
            if dead not in _partitions(reader, dead[0]):
                return None
            reader.start_at({dead: None})
            for records in reader.read_to(reader.ends([dead])):
                letter = next((record for record in reversed(records) if _is_of(record, place)), letter)
        return _rejection(letter) if letter else None

    def _reader(self) -> LogReader:
        return LogReader(self._settings, "registry.records")


def _partitions(reader: LogReader, topic: str) -> list[tuple[str, int]]:
    try:
        return reader.partitions(topic)
    except NotFound:
        return []


def _is_of(letter: Record, place: RecordPlace) -> bool:
    origin = (letter.header("dead-topic"), letter.header("dead-partition"), letter.header("dead-offset"))
    return origin == (place.topic, str(place.partition), str(place.offset))


def _rejection(letter: Record) -> RecordRejection:
    stage, rule, field, reason = (letter.header(f"dead-{name}") or "" for name in ("stage", "rule", "field", "reason"))
    return RecordRejection(stage, rule, field, reason)
