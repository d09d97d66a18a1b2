"""How the records come out: read along as they are committed, with the longest time that nothing came."""

from __future__ import annotations

import threading
import time
from collections import Counter

from headrace.events.v1 import record_pb2
from headrace_runtime.kafka import Admin, LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.record_topics import clean_topic, dead_topic, raw_topic
from headrace_runtime.records import Place
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from records import PIPELINE, POISON_KEY

GROWN_EVERY_S = 5.0
"""How often the topics are asked for partitions that are new."""


class Progress:
    """Counts what becomes visible in the clean and dead topics, in a thread of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.seen: Counter[int] = Counter()
        """Records that came out, by the producers' partition."""
        self.longest_stall_s = 0.0
        """Longest time without any news of one partition, while `watching`."""
        self.last_news_s: dict[int, float] = {}
        self.watching = True
        self._read: list[Place] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join(30)

    def total(self) -> int:
        """Return how many records came out."""
        return sum(self.seen.values())

    def quiet_s(self) -> float:
        """Return for how long nothing has come out of any partition."""
        return time.monotonic() - max(self.last_news_s.values(), default=time.monotonic())

    def _run(self) -> None:
        clean = clean_topic(PIPELINE)
        with LogReader(self._settings, "progress") as reader:
            grown_s = 0.0
            while not self._stopping.is_set():
                try:
                    if time.monotonic() > grown_s:
                        self._grow(reader)
                        grown_s = time.monotonic() + GROWN_EVERY_S
                    records = reader.poll(0.1)
                except KafkaError:
                    # The broker is being killed: this reader waits for it like everybody else.
                    self._stopping.wait(0.2)
                    continue
                for record in records:
                    if record.key == POISON_KEY:
                        continue
                    rows = decode(record, record_pb2.RecordBatch).rows if record.topic == clean else 1
                    self.seen[record.partition] += rows
                self._note({record.partition for record in records})

    def _grow(self, reader: LogReader) -> None:
        """Read the partitions too that have come since the last time."""
        places = [
            place for topic in (clean_topic(PIPELINE), dead_topic(PIPELINE)) for place in reader.partitions(topic)
        ]
        if new := set(places) - set(self._read):
            reader.start_at({place: None if place in new else reader.position(place) for place in places})
            self._read = places
            for _, partition in new:
                self.last_news_s.setdefault(partition, time.monotonic())

    def _note(self, moved: set[int]) -> None:
        now = time.monotonic()
        for partition, last in self.last_news_s.items():
            if self.watching:
                self.longest_stall_s = max(self.longest_stall_s, now - last)
            if partition in moved:
                self.last_news_s[partition] = now


def drained(settings: KafkaSettings) -> bool:
    """Tell whether everything is done: no committed message waits for ingestion or for preprocessing."""
    groups = {f"ingestion.{PIPELINE}": PIPELINE, f"preprocessing.{PIPELINE}": raw_topic(PIPELINE)}
    return not any(waits(settings, group, topic) for group, topic in groups.items())


def waits(settings: KafkaSettings, group: str, topic: str) -> bool:
    """Tell whether a committed message of a topic waits behind what the group has committed, as far as one can tell."""
    try:
        admin = KafkaAdminClient(client_id="chaos", **settings.kafka_client())
        try:
            committed = admin.list_group_offsets([group])[group]
        finally:
            admin.close()
        offsets = {(known.topic, known.partition): item.offset for known, item in committed.items()}
        with LogReader(settings, "chaos") as reader:
            places = reader.partitions(topic)
            ends = reader.ends(places)
            with Admin(settings, "chaos") as written:
                # Whatever lies behind an open transaction waits for its end, which a broker's death may delay.
                if any(ends[place] < end for place, end in written.written_ends(places).items()):
                    return True
            reader.start_at({place: offsets.get(place) for place in places})
            # Markers of transactions lie behind the last message: only reading tells them from messages.
            return any(reader.read_to(ends))
    except KafkaError:
        # The broker has just come back and does not know the group yet.
        return True
