"""Values kept for order statistics (median, quartiles, most frequent): all of them, or a fixed sample of many."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

MOST_ROWS: Final = 2**18
"""Rows that are kept: up to so many, order statistics are exact."""
_FEWEST_ROWS: Final = 2**10
_MOST_VALUES: Final = 2**24
"""Values that are kept of all features together: 128 MiB of float64."""

_HIGHEST: Final = 2**32 - 1

Ranks = npt.NDArray[np.uint32]


def capacity_of(elements: int) -> int:
    """Return how many rows are kept when rows have so many elements in all features that need order statistics."""
    return max(_FEWEST_ROWS, min(MOST_ROWS, _MOST_VALUES // max(elements, 1)))


class RowSample:
    """Up to `capacity` rows of one feature: the same rows give the same sample, in whatever order and parts they come.

    Bottom-k sampling (Cohen and Kaplan, "Summarizing Data Using Bottom-k Sketches", PODC 2007): a row's rank is a hash
    of where it came from, and the rows of the lowest ranks are kept. While no more than `capacity` rows came, that is
    all of them; of more, a quantile's place among the rows is off by about 0.5 / sqrt(capacity), a thousandth for 2^18
    rows. Samples merge: what the union keeps is what one sample of all rows would have kept.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._highest = _HIGHEST
        """Every row of at most this rank is kept."""
        self._ranks: list[Ranks] = []
        self._values: list[npt.NDArray[Any]] = []
        self._kept = 0

    def add(self, values: npt.NDArray[Any], ranks: Ranks) -> None:
        """Add rows, shape [rows, elements], with their ranks, shape [rows]."""
        self._ranks.append(ranks)
        self._values.append(values)
        self._kept += len(values)
        if self._kept >= 2 * self._capacity:
            self._shrink()

    def merge(self, other: RowSample) -> None:
        """Add the rows of another sample, of other rows."""
        self._highest = min(self._highest, other._highest)
        for ranks, values in zip(other._ranks, other._values, strict=True):
            self.add(values, ranks)

    def kept(self, most: int) -> tuple[int, Ranks, npt.NDArray[Any]]:
        """Return what `restored` takes: of at most `most` rows, by rank. At least one row must have come."""
        self._shrink()
        order = np.argsort(self._ranks[0])[:most]
        highest = int(self._ranks[0][order[-1]]) if len(order) < len(self._ranks[0]) else self._highest
        return highest, self._ranks[0][order], self._values[0][order]

    @staticmethod
    def restored(capacity: int, highest: int, ranks: Ranks, values: npt.NDArray[Any]) -> RowSample:
        """Return a sample that kept these rows, and every row of at most the highest rank."""
        sample = RowSample(capacity)
        sample._highest = highest
        sample.add(values, ranks)
        return sample

    @property
    def rows(self) -> int:
        """Rows that are kept, and any that wait to be left out."""
        return self._kept

    @property
    def highest(self) -> int:
        """Rows of a higher rank than this need not be added."""
        return self._highest

    @property
    def is_sampled(self) -> bool:
        """Whether some rows that came are not kept."""
        return self._highest < _HIGHEST

    def values(self) -> npt.NDArray[np.float64]:
        """Return the rows kept, in any order, shape [rows, elements]. At least one row must have come."""
        self._shrink()
        return self._values[0].astype(np.float64)

    def _shrink(self) -> None:
        ranks, values = np.concatenate(self._ranks), np.concatenate(self._values)
        if self._highest < _HIGHEST:
            ranks, values = ranks[low := ranks <= np.uint32(self._highest)], values[low]
        if len(ranks) > self._capacity:
            lowest = np.argpartition(ranks, self._capacity - 1)[: self._capacity]
            ranks, values = ranks[lowest], values[lowest]
            self._highest = int(ranks.max())
        self._ranks, self._values, self._kept = [ranks], [values], len(ranks)


def most_frequent(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the most frequent value of each column, the smallest of several; shape [rows, elements] -> [elements]."""
    return np.array([_most_frequent(column) for column in values.T], dtype=np.float64)


def _most_frequent(column: npt.NDArray[np.float64]) -> float:
    distinct, counts = np.unique(column, return_counts=True)
    return float(distinct[np.argmax(counts)])


def ranks_of(
    partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], indexes: npt.NDArray[np.int32]
) -> Ranks:
    """Return the ranks of rows by where they came from: the mixing function of SplitMix64, over each number in turn.

    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    """
    rank = _mixed(partitions.astype(np.uint64))
    rank = _mixed(rank ^ offsets.astype(np.uint64))
    return (_mixed(rank ^ indexes.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def _mixed(number: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed = (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
