"""The offsets that this process has committed: a broker may forget for a while what a group has committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import ClassVar

from headrace_runtime.records import Offsets, Place, Record, by_place


class Progress:
    """The offsets that the members of a consumer group in this process have committed. Thread-safe.

    Committed offsets never go back within a topic. But a broker may answer with older ones, or with none: Kafka 4.3 may
    do so while it loads them after a kill, and any cluster after it lost a part of them. The records after such an
    offset would be processed twice, and the next commit would make it the valid one.
    """

    _groups: ClassVar[dict[str, Progress]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: dict[Place, int] = {}
        self._topic_ids: dict[str, str] = {}

    @classmethod
    def of(cls, group: str) -> Progress:
        """Return the progress of a group. It outlives the consumers and producers of the group."""
        with cls._guard:
            return cls._groups.setdefault(group, cls())

    def committed(self, offsets: Offsets) -> None:
        """Record offsets whose transaction is committed."""
        with self._lock:
            for place, offset in offsets.items():
                self._offsets[place] = max(offset, self._offsets.get(place, offset))

    def behind(self, records: Sequence[Record], topic_id: Callable[[str], str]) -> dict[Place, int]:
        """Return the partitions whose records begin before the committed offset, with that offset.

        `topic_id` returns the broker's id of a topic, empty when the broker does not say. The offsets of a topic that
        was made anew are forgotten, and so are those of a topic without an id.
        """
        firsts = {place: found[0].offset for place, found in by_place(records).items()}
        with self._lock:
            for topic in {topic for topic, _ in firsts}:
                self._meet(topic, topic_id(topic))
            return {
                place: self._offsets[place] for place, first in firsts.items() if first < self._offsets.get(place, 0)
            }

    def _meet(self, topic: str, topic_id: str) -> None:
        if not topic_id or self._topic_ids.get(topic) != topic_id:
            self._offsets = {place: offset for place, offset in self._offsets.items() if place[0] != topic}
        self._topic_ids[topic] = topic_id
