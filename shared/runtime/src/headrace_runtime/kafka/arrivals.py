"""Which partitions a group consumer was assigned, for each reader that must know."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from kafka import ConsumerRebalanceListener, TopicPartition

from headrace_runtime.records import Place


class Assignments(ConsumerRebalanceListener):  # type: ignore[misc]
    """A rebalance listener that numbers assignments. kafka-python may call it from its own thread."""

    def __init__(self, came: Callable[[], None]) -> None:
        """Call `came` whenever partitions come."""
        self._came = came
        self._lock = threading.Lock()
        self._count = 0
        self._latest: dict[Place, int] = {}
        self.forget_offsets: Callable[[], None] = lambda: None

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Record the partitions, and drop their committed offsets that were fetched before the assignment."""
        self.forget_offsets()
        self._came()
        with self._lock:
            self._count += 1
            self._latest |= {(partition.topic, partition.partition): self._count for partition in assigned}

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Do nothing: partitions that return are assigned again."""

    def since(self, count: int) -> tuple[int, set[Place]]:
        """Return how many assignments there were, and the partitions of those after the first `count`."""
        with self._lock:
            return self._count, {place for place, number in self._latest.items() if number > count}


class Arrivals:
    """One reader's view of a consumer's assignments. Readers do not take each other's news."""

    def __init__(self, assignments: Assignments, owned: Callable[[], set[Place]]) -> None:
        """Begin with the first assignment of the consumer; `owned` returns the partitions that it owns now."""
        self._assignments = assignments
        self._owned = owned
        self._count = 0

    def new(self) -> set[Place]:
        """Return the partitions assigned since the last call, including those that were lost and assigned again."""
        self._count, arrived = self._assignments.since(self._count)
        return arrived & self._owned()
