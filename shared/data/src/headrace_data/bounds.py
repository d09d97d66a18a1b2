"""The interval in which the true value of a measurement lies, and what was lost at least from one to another.

Shares of right rows have Wilson's interval: Wilson, "Probable Inference, the Law of Succession, and Statistical
Inference", Journal of the American Statistical Association 22 (1927). All else has a normal one, with the deviation of
a bootstrap. The interval of a difference is put together of both, as in Newcombe, "Interval Estimation for the
Difference between Independent Proportions", Statistics in Medicine 17 (1998), method 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Protocol

import numpy as np

from headrace_data.tasks import Answers, Measure, Scores
from headrace_data.tasks.measure import COUNTED, Array

CERTAINTY: Final = 0.998
"""How often an interval holds the true value: one end or the other is wrong once in a thousand times each."""
Z: Final = NormalDist().inv_cdf(0.5 + CERTAINTY / 2)
"""How many deviations it goes to either side."""
REPLICATES: Final = 100
MOST_ROWS: Final = 4_000
"""Rows that replicates count: their deviation is scaled to all rows, as of m out of n rows."""


class Interval(Protocol):
    """A measurement and its interval."""

    @property
    def value(self) -> float:
        """What was measured."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""


@dataclass(frozen=True)
class Bounded:
    """A measurement by name, and its interval."""

    name: str
    value: float
    low: float
    high: float


def wilson(share: float, rows: int, z: float = Z) -> tuple[float, float]:
    """Return the ends of Wilson's score interval of a share of so many rows."""
    middle = share + z * z / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def least_loss(measure: Measure, before: Interval, now: Interval, widened: float = 1.0) -> float:
    """Return how much was lost at least from one measurement to the other, in the measure's unit.

    `widened` is how many times as wide the interval of the difference is taken.
    """
    if measure.better == "more":
        return before.value - now.value - widened * math.hypot(before.value - before.low, now.high - now.value)
    return now.value - before.value - widened * math.hypot(now.value - now.low, before.high - before.value)


def widened(rows: int, first: int) -> float:
    """Return how much wider an interval has to be for who looks at it again and again, from `first` rows on.

    The chance of a false alarm is spent over the doublings of the rows, as in Howard, Ramdas, McAuliffe and Sekhon,
    "Time-uniform, Nonparametric, Nonasymptotic Confidence Sequences", Annals of Statistics 49 (2021), section 3.1: with
    looks at every row up to 20,000, one in a hundred of two equal shares is called worse, and 1 in 20 without it.
    """
    doublings = math.log2(max(rows, first) / first)
    return math.sqrt(1 + 4 * math.log1p(doublings) / (Z * Z))


class BoundedScores:
    """One measure of rows that come batch by batch, with its interval.

    Where it is no share of right rows, each row is counted again and again, a random number of times whose mean is one:
    a bootstrap that needs no rows of before, as in Chamandy, Muralidharan, Najmi and Naidu, "Estimating Uncertainty for
    Massive Data Streams", Google (2012).
    """

    def __init__(self, measure: Measure, scores: Callable[[], Scores]) -> None:
        """`scores` returns what measures answers, without any yet."""
        self._measure, self._scores = measure, scores()
        self._rows, self._counted = 0, 0
        counted = measure.adds_up is COUNTED
        self._replicates: list[Scores | None] = [] if counted else [None] * REPLICATES
        self._make, self._random = scores, np.random.default_rng(0)
        self._told: tuple[int, Bounded | None] = (0, None)
        """How many rows were measured last, and what that gave."""

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one."""
        self._scores.add(answers, truth)
        self._rows += len(truth)
        some = min(len(truth), MOST_ROWS - self._counted)
        self._counted += some
        for place, replicate in enumerate(self._replicates):
            rows = np.repeat(np.arange(some), self._random.poisson(1.0, some))
            if len(rows):
                scores = self._replicates[place] = replicate or self._make()
                scores.add({name: values[rows] for name, values in answers.items()}, truth[rows])

    def bounded(self) -> Bounded | None:
        """Return the measurement; None while rows say nothing of it."""
        if self._told[0] != self._rows:
            self._told = (self._rows, self._measured())
        return self._told[1]

    def _measured(self) -> Bounded | None:
        name, rows = self._measure.name, self._rows
        value = self._scores.quality().get(name, math.nan)
        if not math.isfinite(value):
            return None
        if not self._replicates:
            return Bounded(name, value, *wilson(value, rows))
        drawn = [each.quality().get(name, math.nan) for each in self._replicates if each is not None]
        drawn = [each for each in drawn if math.isfinite(each)]
        if len(drawn) < REPLICATES // 2:
            return None
        half = Z * float(np.std(drawn)) * math.sqrt(self._counted / rows)
        if self._measure.unit == "share":
            return Bounded(name, value, max(value - half, 0.0), min(value + half, 1.0))
        return Bounded(name, value, value - half, value + half)
