"""What the groups of the pipeline have committed: no offset of a topic that is never made anew goes back."""

from __future__ import annotations

import threading
from contextlib import closing

from headrace_runtime.settings import KafkaSettings
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError
from records import PIPELINE

GROUPS = (f"ingestion.{PIPELINE}", f"preprocessing.{PIPELINE}")
LOOK_EVERY_S = 2.0


class Commits:
    """Asks for committed offsets all along, in a thread of its own, and tells of those that went back."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._known: dict[tuple[str, TopicPartition], int] = {}
        self.differences: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Stop asking."""
        self._stopping.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                with closing(KafkaAdminClient(client_id="commits", **self._settings.kafka_client())) as admin:
                    found = admin.list_group_offsets(list(GROUPS))
            except KafkaError:
                # A group is not there yet, or the broker is being killed.
                continue
            for group, offsets in found.items():
                self._compare(group, {partition: committed.offset for partition, committed in offsets.items()})

    def _compare(self, group: str, offsets: dict[TopicPartition, int]) -> None:
        for (known_group, partition), known in self._known.items():
            if known_group == group and offsets.get(partition, -1) < known:
                now = offsets.get(partition, "none")
                self.differences.append(
                    f"committed by {group} for {partition.topic}:{partition.partition}: {known}, then {now}"
                )
        self._known |= {(group, partition): offset for partition, offset in offsets.items()}
