"""The metadata of a committed offset: the topic that the offset is of, and a note.

Kafka keeps committed offsets by the name of the topic. A transaction that commits an offset of a deleted topic while
the next topic of that name is there already commits it for that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kafka.structs import ConsumerGroupMetadata

from headrace_runtime.records import Offsets, Place

_MARK = "headrace topic="


class Stamp(NamedTuple):
    """What the metadata of a committed offset says."""

    cluster_id: str
    """Id of the cluster that the topic is in. Tools that mirror offsets to another one copy their metadata."""
    topic_id: str
    """The broker's id of the topic that the offset is of; empty when nobody said."""
    note: str
    """For the process that begins at this offset."""

    @classmethod
    def read(cls, metadata: str | None) -> Stamp:
        """Return the stamp in the metadata of a committed offset. Metadata of other programs is a note."""
        text = metadata or ""
        if not text.startswith(_MARK):
            return cls("", "", text)
        topic, _, note = text.removeprefix(_MARK).partition(" ")
        cluster_id, _, topic_id = topic.rpartition("/")
        return cls(cluster_id, topic_id, note)

    def text(self) -> str:
        """Return the stamp as offset metadata."""
        return f"{_MARK}{self.cluster_id}/{self.topic_id} {self.note}".rstrip() if self.topic_id else self.note


class Membership(NamedTuple):
    """With what a transaction commits offsets for a member of a group."""

    group_metadata: ConsumerGroupMetadata
    cluster_id: str
    topic_ids: Mapping[str, str]
    """The broker's id of the topic of each name that the records of the last poll are of."""

    @property
    def group(self) -> str:
        """The name of the group."""
        return str(self.group_metadata.group_id)

    def metadata(self, offsets: Offsets, notes: Mapping[Place, str]) -> dict[Place, str]:
        """Return the metadata of each offset."""
        return {
            place: Stamp(self.cluster_id, self.topic_ids.get(place[0], ""), notes.get(place, "")).text()
            for place in offsets
        }
