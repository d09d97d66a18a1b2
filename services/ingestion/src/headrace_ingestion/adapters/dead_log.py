"""A pipeline's dead-letter topic, and the producers' messages that its letters name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Self

from headrace_runtime.errors import NotFound
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.away import CALL_BOOTSTRAP_MS, kafka_answering
from headrace_runtime.record_topics import DEAD, dead_topic
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.stream.dead_letters import StoredLetter, read_letter

STALL_S = 20.0
KEPT_MS = int(DEAD.config["retention.ms"])
"""How long a letter is one. Kafka may keep it for longer, but its replay is not remembered for ever."""


class DeadLog:
    """Reads the dead letters of one pipeline. Not safe for use by several threads."""

    def __init__(self, settings: KafkaSettings, pipeline: str) -> None:
        self._settings = settings
        self._topic = dead_topic(pipeline)
        self._name = f"ingestion.{pipeline}.dead"
        self._readers: dict[str, LogReader] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ended: object) -> None:
        for reader in self._readers.values():
            reader.close()

    def letters(self, place: tuple[int, int] | None = None) -> Iterator[list[StoredLetter]]:
        """Yield the letters that are there now, oldest first within each partition; at a place, that one or none.

        Raises Unavailable when the brokers cannot be reached.
        """
        with kafka_answering(self._settings, "dead letters cannot be read"):
            reader = self._reader("letters")
            places = reader.partitions(self._topic)
            if place:
                found = self._at(reader, (self._topic, place[0]), place[1]) if (self._topic, place[0]) in places else []
                yield _fresh(found)
                return
            reader.start_at(dict.fromkeys(places))
            for records in reader.read_to(reader.ends(places), STALL_S):
                yield _fresh(records)

    def sent(self, topic: str, partition: int, offset: int) -> Record | None:
        """Return what stands at a place of a producers' topic; None when it is no longer there."""
        with kafka_answering(self._settings, "dead letters cannot be read"):
            reader = self._reader("origins")
            try:
                if (topic, partition) not in reader.partitions(topic):
                    return None
            except NotFound:
                return None
            found = self._at(reader, (topic, partition), offset)
            return found[0] if found else None

    def _reader(self, purpose: str) -> LogReader:
        # One each, because producers' messages are looked up while letters are read.
        if purpose not in self._readers:
            self._readers[purpose] = LogReader(self._settings, f"{self._name}.{purpose}", CALL_BOOTSTRAP_MS)
        return self._readers[purpose]

    @staticmethod
    def _at(reader: LogReader, place: Place, offset: int) -> list[Record]:
        reader.start_at({place: offset})
        end = min(reader.ends([place])[place], offset + 1)
        read = reader.read_to({place: end}, STALL_S)
        return [record for records in read for record in records if record.offset == offset]


def _fresh(records: Sequence[Record]) -> list[StoredLetter]:
    oldest = time.time() * 1_000 - KEPT_MS
    return [read_letter(record) for record in records if record.timestamp_ms >= oldest]
