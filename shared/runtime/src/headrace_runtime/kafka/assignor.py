"""The assignment of partitions to the members of a group."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor


class TruthfulAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """The cooperative-sticky assignor; a member claims the partitions that it owns at the moment.

    kafka-python (3.0.12) claims the partitions of the last rebalance, even when the member has lost them since, as
    after a broker's restart. The leader then holds such a partition back until its owner revokes it. It has no owner,
    so no member ever reads it again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owned: Callable[[], Collection[TopicPartition]] = tuple
        """A function that returns the partitions that the member owns."""

    def metadata(self, topics: Collection[str]) -> Any:
        """Return the metadata that the member sends to the leader in a join."""
        self.member_assignment = list(self.owned())
        return super().metadata(topics)
