"""The producers' topic may be deleted and made again: what waits of which of these topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from headrace_data.manifest import OffsetRange
from headrace_runtime.records import Place, Record

from headrace_preprocessing.core.filling import Filling


@dataclass(slots=True)
class _Part:
    filling: Filling = field(default_factory=Filling)
    firsts: dict[Place, int] = field(default_factory=dict)
    """The first offset of it in each partition of the clean topic."""


class Lives:
    """Tells batches of the producers' topic from those of topics that had its name before.

    A batch names the id of its topic. Partitions are read in no order of time: those of a later topic may come before
    others of an earlier one. Pushed batches are of no topic, and neither are those from before ids were recorded.
    """

    def __init__(self, current: Callable[[], str]) -> None:
        """Ask the cluster for the id of the topic with `current`, which returns "" when there is none."""
        self._ask = current
        self.topic_id = ""
        """The id of the topic whose rows wait; empty before the first batch that names one."""
        self.gone: set[str] = set()
        """Ids of topics that are there no more."""
        self._parts: dict[str, _Part] = {}

    def meet(self, topic_id: str) -> Filling | None:
        """Take note of a batch's topic before it is added; return what waited of topics that are gone, None if nothing.

        What is returned does not wait any more.
        """
        if not topic_id or topic_id == self.topic_id or topic_id in self.gone:
            return None
        if not self.topic_id:
            self.topic_id = topic_id
            return None
        before, self.topic_id = self.topic_id, self._ask() or topic_id
        self.gone |= {before, topic_id} - {self.topic_id}
        left = [self._parts.pop(gone).filling for gone in self.gone & self._parts.keys()]
        return merged(left) if left else None

    def add(
        self,
        topic_id: str,
        record: Record,
        rows: int,
        rejected: Mapping[str, int],
        sources: Iterable[OffsetRange],
        now_s: float,
    ) -> Filling:
        """Count a batch of that topic which lies in the clean topic as `record`; return what waits of the topic."""
        part = self._parts.setdefault(topic_id, _Part())
        part.firsts.setdefault(record.place, record.offset)
        part.filling.add(rows, rejected, sources, now_s, record.timestamp_ms)
        return part.filling

    def waiting(self) -> Filling:
        """Return all that waits, as one."""
        return merged(part.filling for part in self._parts.values())

    def firsts(self) -> dict[Place, int]:
        """Return where what waits begins, in the partitions of the clean topic that hold any of it."""
        firsts: dict[Place, int] = {}
        for part in self._parts.values():
            for place, offset in part.firsts.items():
                firsts[place] = min(offset, firsts.get(place, offset))
        return firsts

    def clear(self) -> None:
        """Begin with nothing that waits."""
        self._parts.clear()


def merged(fillings: Iterable[Filling]) -> Filling:
    """Return several counts as one, without requests."""
    whole = Filling()
    for each in fillings:
        rejected = Counter(each.rejected)
        whole.add(each.rows, rejected, each.ranges(), max(whole.last_s, each.last_s), each.oldest_ms)
        whole.time_sources |= each.time_sources
        whole.masked += each.masked
        whole.unread += each.unread
        whole.writer_schemas |= each.writer_schemas
    return whole
