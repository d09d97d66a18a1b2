"""Sharing partitions among the members of a group."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor


class TruthfulAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """The cooperative-sticky assignor, which claims what its member owns now.

    kafka-python (3.0.12) claims what the last rebalance gave, also when that was lost since, as after a broker's
    restart. The leader then holds such a partition back until its owner gives it up; but nobody owns it, so nobody
    ever does, and it is read by no one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owned: Callable[[], Collection[TopicPartition]] = tuple
        """Returns the partitions that the member owns."""

    def metadata(self, topics: Collection[str]) -> Any:
        """Return what the member tells the leader when it joins."""
        self.member_assignment = list(self.owned())
        return super().metadata(topics)
