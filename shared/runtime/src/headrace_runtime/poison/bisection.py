"""The search for a poison message, on which processes die. Pure: numbers in, numbers out.

A unit is a message, or a row of a message. A batch that cannot be handled is tried in halves, each half by itself. The
search ends at a single unit that causes a death alone. Halves that pass are handled. A search over n units with k
poison ones therefore costs about k * log2(n) deaths.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

CRASH = "crash"
"""Rule of dead letters: a process that handles the record dies. Three trials of the record alone have shown it."""
SUSPICIOUS_BEGINNINGS = 2
"""Unfinished beginnings at one offset after which the messages there are tried before they are handled."""
CONVICTING_DEATHS = 3
"""Deaths on a single unit after which it is parked."""
MOST_IN_A_ROW = 100
"""Successive parked units after which the fault is taken to lie in the service."""


@dataclass(frozen=True, slots=True)
class Search:
    """The search for the next poison unit among ascending numbers: offsets of a partition, or rows of a message."""

    end: int | None = None
    """The unsettled units before this number caused a death together; None when no unit did."""
    deaths: int = 0
    """Deaths on the first unit alone."""

    def piece(self, units: Sequence[int]) -> Sequence[int]:
        """Return the units to try next: the first of the unsettled `units`, which are ascending and not empty."""
        doubtful = bisect_left(units, self.end) if self.end is not None else 0
        return units[: max(1, doubtful // 2)] if doubtful else units

    def passed(self, piece: Sequence[int]) -> Search:
        """Return the search after a piece passed."""
        return Search() if self.end is None or piece[-1] + 1 >= self.end else Search(self.end)

    def died(self, piece: Sequence[int]) -> Search:
        """Return the search after a piece caused a death."""
        end = piece[-1] + 1
        again = len(piece) == 1 and self.end == end
        return Search(end, self.deaths * again + 1 if len(piece) == 1 else 0)

    @property
    def is_over(self) -> bool:
        """Whether no unsettled unit is known to cause a death."""
        return self.end is None

    @property
    def convicts(self) -> bool:
        """Whether the first unit alone caused enough deaths to be parked."""
        return self.deaths >= CONVICTING_DEATHS


@dataclass(frozen=True, slots=True)
class Mark:
    """The metadata of a committed offset, for the next process that begins there. It outlives process and machine."""

    begun: int = 0
    """Number of processes that began at this offset."""
    until: int = 0
    """Messages before this offset must be tried before they are handled."""
    in_a_row: int = 0
    """Number of units parked since the last unit that passed."""

    @classmethod
    def read(cls, note: str) -> Mark:
        """Return the mark in offset metadata; an empty mark when the metadata has another format."""
        try:
            values = json.loads(note)
            return cls(*(max(0, int(values[name])) for name in cls.__slots__))
        except (ValueError, TypeError, KeyError):
            return cls()

    def text(self) -> str:
        """Return the mark as offset metadata."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    def is_suspicious(self, offset: int) -> bool:
        """Return whether the messages at this offset must be tried: processes died there, or may have, often enough."""
        return self.until > offset or self.begun >= SUSPICIOUS_BEGINNINGS
