"""Counts: how many are to be expected of what is counted, such as orders in an hour or clicks on an offer.

Errors count beside what is expected, as the Poisson distribution has it: of 2 where 1 was expected as much is wrong as
of 100 where 86 were. Nelder and Wedderburn, "Generalized Linear Models" (1972).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from headrace_data.errors import DatasetUnusable
from headrace_data.tasks.gate import rise
from headrace_data.tasks.measure import AVERAGED, Array, Mean, Measure, require_rows
from headrace_data.tasks.regression import Moments
from headrace_data.tasks.task import Always, Answers, Classes, Task

EXPECTED: Final = "expected_count"
"""The output of a served graph: [rows] float32 or float64, in the label's unit; above 0."""
DEVIANCE: Final = Measure("deviance", "nats", "less", "deviance", "Poisson's, mean over the rows", AVERAGED)
EXPLAINED: Final = Measure("deviance_explained", "", "more", "deviance explained", "1 is perfect", most=1.0)
COUNT_MAE: Final = Measure("count_mae", "label", "less", "mae", "mean absolute error", AVERAGED)
TOTAL_ERROR: Final = Measure("total_error", "", "less", "error of the total", "as a share of all that was counted")
_LEAST: Final = 1e-300
"""What is expected at least, for measures: of nothing at all no count above 0 could come."""

_ROUNDING: Final = 1e-12
"""What is left of the deviance of equal counts, as a share of what it is the difference of."""


class CountScores:
    """Measurements of expected counts that come batch by batch."""

    def __init__(self) -> None:
        self._rows = 0
        self._counted = self._expected = 0.0
        self._logs = 0.0
        """Sum of each count times its logarithm."""
        self._deviance, self._absolute = Mean(), Mean()

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one. Raises DatasetUnusable for a count below zero."""
        given, counts = answers[EXPECTED].astype(np.float64), truth.astype(np.float64)
        require_rows(given, counts)
        require_counts(counts)
        self._rows += len(counts)
        self._counted += float(counts.sum())
        self._expected += float(given.sum())
        self._logs += float(_times_log(counts, counts).sum())
        losses = _times_log(counts, counts / np.maximum(given, _LEAST)) - counts + given
        # Of equal numbers rounding may leave less than nothing.
        self._deviance.add(max(0.0, 2 * float(losses.mean())), len(counts))
        self._absolute.add(float(np.abs(given - counts).mean()), len(counts))

    def quality(self) -> dict[str, float]:
        """Return the measures.

        What is explained is the share of the deviance from the rows' mean, D² of Cameron and Windmeijer, "R-squared
        Measures for Count Data Regression Models" (1996): where all rows have one count it is 1 when all are right, and
        0 otherwise. The error of the total is left out where nothing was counted.
        """
        mean, deviance = self._counted / self._rows, self._deviance.value
        from_mean = 2 * (self._logs - self._counted * math.log(mean or 1.0)) / self._rows
        varied = from_mean > _ROUNDING * abs(self._logs / self._rows)
        found = {
            DEVIANCE: deviance,
            EXPLAINED: 1.0 - (deviance / from_mean if varied else float(deviance > 0)),
            COUNT_MAE: self._absolute.value,
        }
        if self._counted:
            found[TOTAL_ERROR] = abs(self._expected / self._counted - 1.0)
        return {measure.name: value for measure, value in found.items()}

    def metrics(self) -> dict[str, float]:
        """Return the same: no part of the rows is measured by itself."""
        return self.quality()


def _times_log(counts: Array, ratios: Array) -> Array:
    """Return counts times the logarithms of ratios: 0 where nothing was counted."""
    made: Array = counts * np.log(np.where(counts > 0, ratios, 1.0))
    return made


def require_counts(labels: Array) -> None:
    """Raise DatasetUnusable for a label that is no count: one below zero, or an infinite one."""
    lowest, highest = float(labels.min()), float(labels.max())
    if not (lowest >= 0 and math.isfinite(highest)):
        raise DatasetUnusable(
            f"train.task count: expected counts of 0 and more, got {lowest if math.isfinite(highest) else highest:g}; "
            "give the label the range [0, ...] and set prepare.clean.outOfRange to drop, or have the producer send "
            "others"
        )


class Counted(Moments):
    """Mean and deviation of counts."""

    def add(self, labels: Array) -> None:
        """Add the labels of some rows. Raises DatasetUnusable for one below zero."""
        require_counts(labels)
        super().add(labels)

    def baseline(self) -> Always:
        """Return what measures always the mean."""
        return Always(CountScores(), lambda rows: {EXPECTED: np.full(rows, self.mean)}, {})


class Count(Task):
    """How many are to be expected."""

    kind = "count"
    answer = "how many are to be expected, of a label that counts from 0 on, such as orders"
    unfit = frozenset({"string", "bool"})
    unfit_networks = frozenset({"imported"})
    least = 0.0
    answers_numbers = True
    heeds = frozenset({"predictionType"})
    outputs = (EXPECTED,)
    headline = DEVIANCE
    loss = DEVIANCE
    measured = (DEVIANCE, EXPLAINED, COUNT_MAE, TOTAL_ERROR)
    won_by_constants = frozenset({TOTAL_ERROR.name})
    unfit_to_choose = frozenset({TOTAL_ERROR.name})
    beside = COUNT_MAE.name
    always = "always answering the mean"
    gates = (rise(DEVIANCE),)

    def labels(self, train: Any, places: Classes = ()) -> Counted:
        """Return what takes note of the mean, and checks counts."""
        return Counted()

    def point(self, answers: Answers, places: Classes) -> Array:
        """Return the expected counts."""
        return answers[EXPECTED]

    def scores(
        self, classes: Classes, positive: int | str | None = None, compared: Classes = (), steps: Classes = ()
    ) -> CountScores:
        """Return what measures answers."""
        return CountScores()
