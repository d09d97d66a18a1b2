"""What answers are measured by: a figure's name, unit and direction, and how it adds up over several sets of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Metrics = Mapping[str, float]
"""Measurements by name."""
Unit = Literal["share", "nats", "label", ""]
"""share: 0 to 1. nats: of a loss. label: the label's own unit. Empty: a number without one."""

ROUNDING: Final = 1e-9
"""Measurements that differ by less, as a share of them, are equal: sums in another order do."""


@dataclass(frozen=True)
class Additive:
    """How a measure of several sets of rows follows from that of each."""

    total: Callable[[float, int], float]
    """From a value over so many rows to an amount that adds up."""
    mean: Callable[[float, int], float]
    """From an amount back to the value over so many rows."""


COUNTED: Final = Additive(lambda share, rows: round(share * rows), lambda count, rows: count / rows)
"""Of a share of rows: their number."""
SQUARED: Final = Additive(lambda root, rows: root * root * rows, lambda squares, rows: math.sqrt(squares / rows))
"""Of the root of a mean square: the sum of the squares."""


AVERAGED: Final = Additive(lambda mean, rows: mean * rows, lambda total, rows: total / rows)
"""Of a mean over rows: the sum."""


@dataclass(frozen=True)
class Measure:
    """One figure that says how good answers are."""

    name: str
    """As in metrics: `log_loss`."""
    unit: Unit
    better: Literal["more", "less"]
    title: str
    """As a page calls it."""
    note: str = ""
    """What a page says beside it."""
    adds_up: Additive | None = None
    """None where that of joined rows does not follow from that of each set: they are measured together then."""
    most: float = math.inf
    """The highest value that there can be; of a share it is 1."""

    def worse(self, one: float, other: float) -> bool:
        """Tell whether one value, or amount, is worse than the other by more than rounding."""
        less, more = (one, other) if self.better == "more" else (other, one)
        return less < more - ROUNDING * abs(more)

    def expected(self, value: float) -> str:
        """Return what is expected in the place of a value that there cannot be, empty for one that there can."""
        low, high = (0.0, 1.0) if self.unit == "share" else (-math.inf if self.unit == "" else 0.0, self.most)
        if math.isfinite(value) and low <= value <= high:
            return ""
        if math.isinf(high):
            return "a finite number" if math.isinf(low) else "a finite number from 0"
        return f"a finite number of at most {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"

    def text(self, value: float) -> str:
        """Return a value for a sentence."""
        return f"{value:.6g}" if self.unit == "label" else f"{value:.4f}"


@dataclass(frozen=True)
class Achieved:
    """What a version achieves by one measure over so many rows."""

    measure: Measure
    value: float
    rows: int

    def worse_than(self, other: Achieved) -> bool:
        """Tell whether the other, over the same rows, is better."""
        return self.measure.worse(self.amount, other.amount)

    @property
    def amount(self) -> float:
        """What is compared, and adds up where the measure does: right answers, the sum of squared errors."""
        # Amounts are compared where there are any: a root hides what rounding is of the squares.
        return self.measure.adds_up.total(self.value, self.rows) if self.measure.adds_up else self.value

    def __str__(self) -> str:
        told = f"{self.measure.name} {self.measure.text(self.value)}"
        if self.measure.adds_up is COUNTED:
            return f"{self.amount} of {self.rows} right ({told})"
        return f"{told} over {self.rows} rows"


def joined(parts: Sequence[Achieved]) -> Achieved:
    """Return what is achieved over several sets of rows together, by a measure that adds up; of one as it is."""
    if len(parts) == 1:
        return parts[0]
    measure, rows = parts[0].measure, sum(part.rows for part in parts)
    if measure.adds_up is None:
        raise ValueError(f"{measure.name} does not add up: expected one set of rows, got {len(parts)}")
    total = sum(part.amount for part in parts)
    return Achieved(measure, measure.adds_up.mean(total, rows), rows)


class Mean:
    """A mean of rows that come batch by batch. Of one batch it is that batch's mean, to the last bit."""

    def __init__(self) -> None:
        self.value = 0.0
        self._weight = 0.0

    def add(self, mean: float, weight: float) -> None:
        """Add rows: their mean and their weight, such as their number; above zero."""
        self._weight += weight
        self.value += (mean - self.value) * (weight / self._weight)


def require_rows(answers: Array, truth: Array) -> None:
    """Raise ValueError unless there is one answer for each of at least one row."""
    if len(answers) != len(truth):
        raise ValueError(f"labels: expected one for each of {len(truth)} rows, got {len(answers)}")
    if len(truth) == 0:
        raise ValueError("rows: expected at least one to measure, got none")
