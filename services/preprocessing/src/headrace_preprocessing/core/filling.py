"""How far the next dataset has filled, and when it is due."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headrace_data.manifest import OffsetRange
from headrace_data.spec import Freeze


def rows_wanted(policy: Freeze) -> int:
    """Return how many rows the policy waits for; 0 when their number does not matter."""
    return policy.after_records or (policy.min_records if policy.min_records > 1 else 0)


@dataclass(slots=True)
class Filling:
    """What waits in the clean topic since the last dataset was cut."""

    rows: int = 0
    ready: int | None = None
    """Rows that a dataset can have by now, of those of earlier cuts, too; None where all of these can be had."""
    awaiting: int = 0
    """Rows that wait for a label which comes later."""
    rejected: Counter[str] = field(default_factory=Counter)
    sources: dict[int, OffsetRange] = field(default_factory=dict)
    """What these records cover of the producers' topic, by partition."""
    last_s: float = 0.0
    """When the last batch came, on the caller's clock, in seconds."""
    oldest_ms: int = 0
    """When the first rows that wait became clean, in milliseconds since the epoch; 0 when none wait."""
    requests: list[str] = field(default_factory=list)
    """Ids of the requests for a dataset that are not answered yet, oldest first."""
    failed_rows: int = -1
    """Rows that waited when a freeze of them failed; it is not tried again before there are more."""
    time_sources: set[str] = field(default_factory=set)
    """Where the event times of the rows come from, in the words of a dataset's provenance."""
    masked: Counter[str] = field(default_factory=Counter)
    """What was masked in texts, by kind of personal data."""
    unread: Counter[str] = field(default_factory=Counter)
    """How many values a SELECT could not read, by field."""
    writer_schemas: set[str] = field(default_factory=set)
    """Digests of the schemas that the records were written with."""

    def add(
        self, rows: int, rejected: Mapping[str, int], sources: Iterable[OffsetRange], now_s: float, written_ms: int
    ) -> None:
        """Count one batch of the clean topic, which was written there at a time (milliseconds since the epoch)."""
        self.rows += rows
        if rows:
            self.oldest_ms = min(self.oldest_ms or written_ms, written_ms)
        self.rejected.update(rejected)
        for new in sources:
            known = self.sources.get(new.partition, new)
            self.sources[new.partition] = OffsetRange(
                partition=new.partition, start=min(known.start, new.start), end=max(known.end, new.end)
            )
        self.last_s = now_s

    def goes_on(self, sources: Iterable[OffsetRange]) -> bool:
        """Tell whether a batch begins where what waits of its partition ends; pushed records of others lie between."""
        return all(
            new.partition < 0 or ((known := self.sources.get(new.partition)) is not None and new.start == known.end)
            for new in sources
        )

    def begins_anew(self, sources: Iterable[OffsetRange]) -> bool:
        """Tell whether a batch goes back behind what waits: its topic is another one of the same name.

        Batches of a partition come in the order of their offsets. Pushed records have partitions below zero; the topic
        that accepts them is never made anew.
        """
        return any(
            new.partition in self.sources and new.start < self.sources[new.partition].end
            for new in sources
            if new.partition >= 0
        )

    def ranges(self) -> tuple[OffsetRange, ...]:
        """Return the producers' ranges, by partition."""
        return tuple(self.sources[partition] for partition in sorted(self.sources))

    def rest_s(self, policy: Freeze, now_s: float, now_ms: int) -> float:
        """Return the seconds until time alone makes a dataset due; infinite when only rows or requests can."""
        if self.due(policy, now_s, now_ms):
            return 0.0
        left_s = policy.max_age + (self.oldest_ms - now_ms) / 1_000
        if self.usable <= max(0, self.failed_rows) or self.usable < policy.min_records:
            return math.inf if self.ready is None or not self.rows else left_s
        idle_s = math.inf if policy.after_idle is None else self.last_s + policy.after_idle - now_s
        return min(idle_s, left_s)

    @property
    def usable(self) -> int:
        """Rows that a dataset can have by now."""
        return self.rows if self.ready is None else self.ready

    def due(self, policy: Freeze, now_s: float, now_ms: int) -> bool:
        """Tell whether a dataset is due: asked for, full, idle with rows waiting, or the rows are too old to wait.

        `now_ms` is the time of day, in milliseconds since the epoch: an age outlives the process.
        """
        if self.requests:
            return True
        cuts_by_itself = policy.after_records is not None or policy.after_idle is not None
        old = cuts_by_itself and now_ms - self.oldest_ms >= policy.max_age * 1_000
        if self.ready == 0 and self.rows:
            # They wait for their labels in the store from now on: the clean topic keeps them no longer than a week.
            return old
        if self.usable == 0 or self.usable <= self.failed_rows:
            return False
        full = policy.after_records is not None and self.usable >= policy.after_records
        enough = self.usable >= policy.min_records
        idle = policy.after_idle is not None and now_s - self.last_s >= policy.after_idle
        return full or (idle and enough) or (old and enough)
