"""The offsets that this process has committed: a broker may forget for a while what a group has committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
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
        self._offsets: dict[tuple[Place, str], int] = {}
        """The offset behind what was committed of each partition, by the id of its topic."""

    @classmethod
    def of(cls, group: str) -> Progress:
        """Return the progress of a group. It outlives the consumers and producers of the group."""
        with cls._guard:
            return cls._groups.setdefault(group, cls())

    def committed(self, offsets: Offsets, topic_ids: Mapping[str, str]) -> None:
        """Record offsets whose transaction is committed; `topic_ids` are the broker's ids of their topics, by name.

        Without the id of its topic an offset is not recorded: any record may be of a topic that was made anew.
        """
        with self._lock:
            for place, offset in offsets.items():
                if topic_id := topic_ids.get(place[0]):
                    self._offsets[place, topic_id] = max(offset, self._offsets.get((place, topic_id), 0))

    def behind(self, records: Sequence[Record], topic_id: Callable[[str], str]) -> dict[Place, int]:
        """Return the partitions whose records begin before the committed offset, with that offset.

        `topic_id` returns the broker's id of the topic that the records are of, empty when the broker does not say.
        """
        firsts = {place: found[0].offset for place, found in by_place(records).items()}
        with self._lock:
            committed = {place: self._offsets.get((place, topic_id(place[0])), 0) for place in firsts}
        return {place: committed[place] for place, first in firsts.items() if first < committed[place]}
