"""Regression: a number that comes close to the label."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from headrace_data.tasks.gate import Gate
from headrace_data.tasks.measure import AVERAGED, SQUARED, Array, Measure, Metrics, require_rows
from headrace_data.tasks.task import BASELINE, Always, Answers, Baseline, Classes, Task

PREDICTION: Final = "prediction"
"""The output of a served graph: [rows] float32 or float64, in the label's unit."""
RMSE: Final = Measure("rmse", "label", "less", "rmse", adds_up=SQUARED)
MAE: Final = Measure("mae", "label", "less", "mae", "mean absolute error", AVERAGED)
R2: Final = Measure("r2", "", "more", "r²", "1 is perfect", most=1.0)


class Errors:
    """Errors of predicted numbers that come batch by batch. Of one batch they are what they are of all rows at once.

    Deviations are merged as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances" (1979).
    """

    def __init__(self) -> None:
        self._rows = 0
        self._absolute = 0.0
        self._squares = 0.0
        self._mean = 0.0
        self._spread = 0.0

    def add(self, predictions: Array, truth: Array) -> None:
        """Add rows, in the label's unit; at least one."""
        require_rows(predictions, truth)
        expected = truth.astype(np.float64)
        errors = predictions.astype(np.float64) - expected
        self._absolute += float(np.abs(errors).sum())
        self._squares += float(np.square(errors).sum())
        mean, rows = float(expected.mean()), len(truth)
        delta, total = mean - self._mean, self._rows + rows
        self._spread += float(np.square(expected - mean).sum()) + delta * delta * (self._rows * rows / total)
        self._mean += delta * (rows / total)
        self._rows = total

    @property
    def rmse(self) -> float:
        """Root of the mean squared error, in the label's unit."""
        return float(np.sqrt(self._squares / self._rows))

    def metrics(self) -> dict[str, float]:
        """Return what `errors_of` says."""
        unexplained = self._squares / self._spread if self._spread > 0 else float(self._squares > 0)
        return {RMSE.name: self.rmse, MAE.name: self._absolute / self._rows, R2.name: 1.0 - unexplained}


def errors_of(predictions: Array, truth: Array) -> dict[str, float]:
    """Return rmse (root of the mean squared error) and mae (mean absolute error), in the label's unit, and r2.

    r2 is the share of the label's variance that the predictions explain: 1 - squared errors / squared deviations from
    the rows' mean. Where all rows have one label it is 1 when all are right, and 0 otherwise.
    """
    errors = Errors()
    errors.add(predictions, truth)
    return errors.metrics()


class RegressionScores:
    """Measurements of a regression's answers."""

    def __init__(self) -> None:
        self._errors = Errors()

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one."""
        self._errors.add(answers[PREDICTION], truth)

    def quality(self) -> dict[str, float]:
        """Return rmse, mae and r2."""
        return self._errors.metrics()

    def metrics(self) -> dict[str, float]:
        """Return the same: no part of the rows is measured by itself."""
        return self.quality()


def always_the_mean(mean: float) -> Always:
    """Return what measures always the training split's mean."""
    return Always(RegressionScores(), lambda rows: {PREDICTION: np.full(rows, mean)}, {})


def _rise(own: Metrics, reference: Metrics) -> float:
    before, after = reference.get(RMSE.name, math.nan), own.get(RMSE.name, math.nan)
    # A reference without any error cannot be divided by: only a variant without error is as good.
    return 0.0 if before == after == 0.0 else after / before - 1.0 if before > 0.0 else math.nan


class Regression(Task):
    """A number that comes close to the label."""

    kind = "regression"
    unfit = frozenset({"string"})
    outputs = (PREDICTION,)
    headline = RMSE
    measured = (RMSE, MAE, R2)
    beside = MAE.name
    gates = (Gate("errorRise", "error_rise", _rise, 0.0),)

    def scores(self, classes: Classes, positive: int | str | None = None, compared: Classes = ()) -> RegressionScores:
        """Return what measures answers."""
        return RegressionScores()

    def baseline(self, metrics: Metrics, measure: Measure) -> Baseline | None:
        """Return what always answering the mean scores beside the version."""
        name = f"{BASELINE}{measure.name}"
        if not {name, measure.name} <= metrics.keys():
            return None
        return Baseline(measure, "always answering the mean", metrics[name], metrics[measure.name])
