"""The search for a message on which processes die. Pure: numbers in, numbers out.

A batch that cannot be handled is tried in halves, each half by itself, until one unit that dies alone is left. What
does not die goes through, so a search over n units that holds k bad ones meets about k * log2(n) deaths.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

CRASH = "crash"
"""Rule of dead letters: whoever handles the record dies. It was tried three times, alone, in a process of its own."""
SUSPICIOUS_BEGINNINGS = 2
"""Beginnings at one offset that came to no end, after which what stands there is tried before it is handled."""
CONVICTING_DEATHS = 3
"""Deaths on a unit alone after which it is set aside."""
MOST_IN_A_ROW = 100
"""Units set aside one after another before the fault is taken to be the service's own."""


@dataclass(frozen=True, slots=True)
class Search:
    """Where the next bad one is looked for among ascending numbers: offsets of a partition, or rows of a message."""

    end: int | None = None
    """What is not settled before this number has died together; None when nothing has died."""
    deaths: int = 0
    """How often the first unit has died alone."""

    def piece(self, units: Sequence[int]) -> Sequence[int]:
        """Return which of the units that are not settled, ascending and at least one, to try next: the first ones."""
        doubtful = bisect_left(units, self.end) if self.end is not None else 0
        return units[: max(1, doubtful // 2)] if doubtful else units

    def passed(self, piece: Sequence[int]) -> Search:
        """Return where to look once a piece is settled."""
        return Search() if self.end is None or piece[-1] + 1 >= self.end else Search(self.end)

    def died(self, piece: Sequence[int]) -> Search:
        """Return where to look once a piece has died."""
        end = piece[-1] + 1
        again = len(piece) == 1 and self.end == end
        return Search(end, self.deaths * again + 1 if len(piece) == 1 else 0)

    @property
    def is_over(self) -> bool:
        """Whether nothing is known to be bad."""
        return self.end is None

    @property
    def convicts(self) -> bool:
        """Whether the first unit has died alone often enough."""
        return self.deaths >= CONVICTING_DEATHS


@dataclass(frozen=True, slots=True)
class Mark:
    """What is noted beside a committed offset, for whoever begins there: it outlives the process and its machine."""

    begun: int = 0
    """How often processes have begun at this offset."""
    until: int = 0
    """Messages before this offset are to be tried before they are handled."""
    in_a_row: int = 0
    """How many units were set aside since the last one that went through."""

    @classmethod
    def read(cls, note: str) -> Mark:
        """Return the mark in a note; an empty one when the note is another's."""
        try:
            values = json.loads(note)
            return cls(*(max(0, int(values[name])) for name in cls.__slots__))
        except (ValueError, TypeError, KeyError):
            return cls()

    def text(self) -> str:
        """Return the mark as a note."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    def is_suspicious(self, offset: int) -> bool:
        """Tell whether processes have died at this offset, or may have, often enough to try what stands there."""
        return self.until > offset or self.begun >= SUSPICIOUS_BEGINNINGS
