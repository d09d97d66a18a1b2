"""How certain the difference of a variant from fp32 is that was measured on some rows.

The rows are dealt into groups, the same for every variant, and the measure is taken in each group by itself. The spread
of the differences tells how far that of all rows may be from what other rows would show: the method of random groups,
Wolter, "Introduction to Variance Estimation", chapter 2. It asks nothing of a measure but that it can be taken, and
one pass over the rows. Beside fp32 on the same rows, what both find hard cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist, stdev
from typing import Final

import numpy as np

from headrace_data.tasks.measure import Array, Measure, Metrics
from headrace_data.tasks.task import Answers, Scores, Task

GROUPS: Final = 20
"""Into so many groups rows are dealt."""
DIFFERENCE_ERROR: Final = "difference_error"
"""Standard error of a variant's difference from fp32, by the measure that its task is known by and in its unit."""


class Groups:
    """The headline of groups of rows, of rows that come batch by batch."""

    def __init__(self, task: Task, scores: Callable[[], Scores]) -> None:
        """`scores` returns what measures the rows of one group."""
        self._task = task
        self._scores = [scores() for _ in range(GROUPS)]
        self._filled: set[int] = set()
        self._rows = 0

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows: what was answered, and the label; at least one. Rows of a ranking's group stay together."""
        dealt = truth[:, 1].astype(np.int64) if self._task.grouped else np.arange(self._rows, self._rows + len(truth))
        self._rows += len(truth)
        places = dealt % GROUPS
        for group in sorted(set(places.tolist())):
            rows = np.flatnonzero(places == group)
            self._scores[group].add({name: given[rows] for name, given in answers.items()}, truth[rows])
            self._filled.add(group)

    def values(self) -> dict[int, float]:
        """Return the headline of each group of which it says anything."""
        name = self._task.headline.name
        found = {group: self._scores[group].quality().get(name, math.nan) for group in sorted(self._filled)}
        return {group: value for group, value in found.items() if math.isfinite(value)}


class Differences:
    """The differences of variants from the first one."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._reference: Mapping[int, float] | None = None

    def of(self, groups: Groups) -> dict[str, float]:
        """Return the standard error of a variant's difference by its name; nothing where a group says nothing."""
        own = groups.values()
        if self._reference is None:
            self._reference = own
        apart = [value - self._reference[group] for group, value in own.items() if group in self._reference]
        return {DIFFERENCE_ERROR: stdev(apart) / math.sqrt(GROUPS)} if len(apart) == GROUPS else {}


def at_worst(metrics: Metrics, measure: Measure, certainty: float) -> Metrics:
    """Return a variant's measurements with its headline at the bad end of what its difference from fp32 may be.

    `certainty` is one-sided: 0.95 is right in 95 cases of 100. Without a standard error nothing is certain, and the
    headline is not a number.
    """
    away = students_t(certainty, GROUPS - 1) * metrics.get(DIFFERENCE_ERROR, math.nan)
    sign = -1.0 if measure.better == "more" else 1.0
    return {**metrics, measure.name: metrics.get(measure.name, math.nan) + sign * away}


def students_t(share: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution, to three digits from ten degrees of freedom on.

    By the expansion around the normal quantile, Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5.
    """
    z = NormalDist().inv_cdf(share)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2
