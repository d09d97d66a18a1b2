"""Digests of keys in the order in which they came, found by their value: a ring, and sorted runs of places in it.

About 21 bytes for each key: 12 in the ring, and 8 of its entry in a run, which holds the other 4 of its digest. New
entries go into a short run, and into the long one once that is an eighth of it: sorted arrays are merged at the speed
of a copy, where a hash table would cost a step in Python for each key (P. O'Neil et al., "The log-structured
merge-tree", Acta Informatica 33, 1996).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_data.key_digests import Digests

Numbers = npt.NDArray[np.int64]
Entries = npt.NDArray[np.uint64]
"""In order: the first half of a digest above, below it the slot of the ring or the row that has it."""

LEAST_ROOM: Final = 256
SHORTEST: Final = 4096
"""Entries of a run that are not moved on for their number alone."""
_HIGH: Final = np.uint64(0xFFFFFFFF00000000)
_LOW: Final = np.uint64(0x00000000FFFFFFFF)
_NOTHING: Final = np.empty(0, np.uint64)
_NONE: Final = np.empty(0, np.int64)


class KeyRing:
    """The last keys of those appended, at most `most`. Each has a number: how many were appended before it."""

    def __init__(self, most: int, *, timed: bool = False) -> None:
        """Keep a clock beside each key when it is `timed`; 8 bytes more."""
        self.most = most
        self.first = 0
        """The number of the oldest key."""
        self.next = 0
        """The number that the next key gets."""
        self._low = np.empty(0, np.uint32)
        self._rest = np.empty(0, np.uint64)
        self._clocks = np.empty(0, np.int64) if timed else None
        self._long = _NOTHING
        self._short = _NOTHING

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that it holds."""
        held = (self._low, self._rest, self._clocks, self._long, self._short)
        return sum(array.nbytes for array in held if array is not None)

    def append(self, digests: Digests, clocks: Numbers | None = None) -> None:
        """Add keys, oldest first; the oldest of all make room for them."""
        beyond = max(0, len(digests) - self.most)
        self.next += beyond
        digests = digests[beyond:]
        self.forget_before(self.next + len(digests) - self.most)
        if (wanted := self.next + len(digests) - self.first) > len(self._low):
            self._grow(min(self.most, max(LEAST_ROOM, wanted * 3 // 2)))
        slots = np.arange(self.next, self.next + len(digests)) % max(1, len(self._low))
        self._low[slots] = digests[:, 0] & _LOW
        self._rest[slots] = digests[:, 1]
        if self._clocks is not None and clocks is not None:
            self._clocks[slots] = clocks[beyond:]
        self.next += len(digests)
        self._short = _merged(self._short, np.sort((digests[:, 0] & _HIGH) | slots.astype(np.uint64)))
        if len(self._short) > max(SHORTEST, len(self._long) // 8):
            self._move_on()

    def forget_before(self, number: int) -> None:
        """Forget the keys that came before that number."""
        self.first = min(max(self.first, number), self.next)
        if self.first == self.next:
            self._long = self._short = _NOTHING

    def find(self, digests: Digests, ordered: Entries) -> tuple[Numbers, Numbers]:
        """Return the rows of keys that are there, and the number under which each came last.

        `ordered` are the entries of these digests, see `entries`.
        """
        pairs = [self._find_in(run, ordered, digests) for run in (self._long, self._short) if len(run)]
        rows, numbers = map(np.concatenate, zip(*pairs, strict=True)) if pairs else (_NONE, _NONE)
        if not len(rows):
            return _NONE, _NONE
        newest = np.full(len(digests), -1, np.int64)
        np.maximum.at(newest, rows, numbers)
        rows = np.flatnonzero(newest >= self.first)
        return rows, newest[rows]

    def clocks(self, numbers: Numbers) -> Numbers:
        """Return the clocks of keys that are there. Raises ValueError of a ring without clocks."""
        if self._clocks is None:
            raise ValueError("expected a ring that keeps clocks")
        return self._clocks[numbers % max(1, len(self._clocks))]

    def _find_in(self, run: Entries, ordered: Entries, digests: Digests) -> tuple[Numbers, Numbers]:
        found: list[tuple[Numbers, Numbers]] = []
        at = run.searchsorted(ordered & _HIGH)
        while True:
            # Behind the end of a run, its last entry is looked at again.
            held = run[np.minimum(at, len(run) - 1)]
            alike = np.flatnonzero(((held ^ ordered) <= _LOW) & (at < len(run)))
            if not len(alike):
                break
            slots, rows = _places(held[alike]), _places(ordered[alike])
            # What was overwritten since is still in the run, and is no digest's equal any more.
            same = (self._rest[slots] == digests[rows, 1]) & (self._low[slots] == (digests[rows, 0] & _LOW))
            found.append((rows[same], self._numbers(slots[same])))
            at, ordered = at[alike] + 1, ordered[alike]
        rows, numbers = map(np.concatenate, zip(*found, strict=True)) if found else (_NONE, _NONE)
        return rows, numbers

    def _numbers(self, slots: Numbers) -> Numbers:
        numbers: Numbers = self.next - 1 - (self.next - 1 - slots) % len(self._low)
        return numbers

    def _move_on(self) -> None:
        """Merge the short run into the long one, whose entries of overwritten slots go."""
        overwritten = np.zeros(len(self._low), np.bool_)
        overwritten[_places(self._short)] = True
        stays = self._long[~overwritten[_places(self._long)]]
        self._long, self._short = _merged(stays, self._short), _NOTHING

    def _grow(self, room: int) -> None:
        self._move_on()
        numbers = np.arange(self.first, self.next)
        of_entries = self._numbers(_places(self._long)) if len(self._long) else numbers
        moved = (self._long & _HIGH) | (of_entries % room).astype(np.uint64)
        self._long = np.sort(moved[of_entries >= self.first])
        self._low, self._rest = _moved(self._low, numbers, room), _moved(self._rest, numbers, room)
        self._clocks = None if self._clocks is None else _moved(self._clocks, numbers, room)


def entries(digests: Digests) -> Entries:
    """Return the digests of rows as entries in order."""
    return np.sort((digests[:, 0] & _HIGH) | np.arange(len(digests), dtype=np.uint64))


def repeat(ordered: Entries) -> bool:
    """Tell whether one key may have two of these entries; of different keys, one pair in 2 ** 32 looks so too."""
    return bool(((ordered[1:] ^ ordered[:-1]) <= _LOW).any())


def _places(of: Entries) -> Numbers:
    return (of & _LOW).astype(np.int64)


def _merged(one: Entries, other: Entries) -> Entries:
    # A stable sort finds the two runs, and merges them.
    return np.sort(np.concatenate([one, other]), kind="stable") if len(one) else other


def _moved(old: npt.NDArray[Any], numbers: Numbers, room: int) -> npt.NDArray[Any]:
    new = np.empty(room, old.dtype)
    if len(numbers):
        new[numbers % room] = old[numbers % len(old)]
    return new
