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


def capacity_of(elements: int) -> int:
    """Return how many rows are kept when rows have so many elements in all features that need order statistics."""
    return max(_FEWEST_ROWS, min(MOST_ROWS, _MOST_VALUES // max(elements, 1)))


class RowSample:
    """Up to `capacity` rows of one feature. The same rows in the same order give the same sample, however batched.

    Bottom-k sampling (Cohen and Kaplan, "Summarizing Data Using Bottom-k Sketches", PODC 2007): a row's rank is a hash
    of its place, and the rows of the lowest ranks are kept. While no more than `capacity` rows came, that is all of
    them; of more, a quantile's place among the rows is off by about 0.5 / sqrt(capacity), a thousandth for 2^18 rows.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows = 0
        self._ranks: list[npt.NDArray[np.uint64]] = []
        self._values: list[npt.NDArray[Any]] = []
        self._kept = 0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Add rows, shape [rows, elements]."""
        self._ranks.append(_ranks(self._rows, len(values)))
        self._values.append(values)
        self._rows += len(values)
        self._kept += len(values)
        if self._kept >= 2 * self._capacity:
            self._shrink()

    def values(self) -> npt.NDArray[np.float64]:
        """Return the rows kept, in any order, shape [rows, elements]. At least one row must have come."""
        self._shrink()
        return self._values[0].astype(np.float64)

    def _shrink(self) -> None:
        ranks, values = np.concatenate(self._ranks), np.concatenate(self._values)
        if len(ranks) > self._capacity:
            lowest = np.argpartition(ranks, self._capacity)[: self._capacity]
            ranks, values = ranks[lowest], values[lowest]
        self._ranks, self._values, self._kept = [ranks], [values], len(ranks)


def most_frequent(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the most frequent value of each column, the smallest of several; shape [rows, elements] -> [elements]."""
    return np.array([_most_frequent(column) for column in values.T], dtype=np.float64)


def _most_frequent(column: npt.NDArray[np.float64]) -> float:
    distinct, counts = np.unique(column, return_counts=True)
    return float(distinct[np.argmax(counts)])


def _ranks(start: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the ranks of consecutive places: the mixing function of SplitMix64, which gives no rank twice.

    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    """
    mixed = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
