"""Regression: a number that comes close to the label."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import pydantic

from headrace_data.tasks.gate import rise
from headrace_data.tasks.measure import AVERAGED, SQUARED, Array, Measure, Metrics, require_rows
from headrace_data.tasks.task import BASELINE, Always, Answers, Baseline, Classes, Task

PredictionType = Literal["float32", "float64"]
"""In which type a number is predicted."""
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


class Moments:
    """Mean and deviation of labels, merged as in Chan, Golub and LeVeque (1979)."""

    def __init__(self) -> None:
        self._count = 0
        self._squares = 0.0
        self.mean = 0.0

    def add(self, labels: Array) -> None:
        """Add the labels of some rows."""
        values = labels.astype(np.float64)
        mean, count = float(values.mean()), len(values)
        delta, total = mean - self.mean, self._count + count
        self._squares += float(np.square(values - mean).sum()) + delta * delta * (self._count * count / total)
        self.mean += delta * (count / total)
        self._count = total

    @property
    def deviation(self) -> float:
        """The population's standard deviation; 1 where all labels are equal, and the mean says it all."""
        return float(np.sqrt(self._squares / self._count)) or 1.0

    def baseline(self) -> Always:
        """Return what measures always the mean."""
        return always_the_mean(self.mean)


class NumberSettings(pydantic.BaseModel):
    """What `train` says of numbers that are answered."""

    prediction_type: PredictionType | None = pydantic.Field(
        default=None,
        description="Of tasks that answer numbers: their type; clients read FP32 or FP64. Left out of a pipeline that "
        "is applied for the first time: float64 for a label of type float64, int32, int64 or uint32, of which float32 "
        "holds seven digits only. Left out later: as it was, and float32 in pipelines from before there was a choice.",
    )


class Regression(Task):
    """A number that comes close to the label."""

    kind = "regression"
    answer = "a number that comes close to the label"
    unfit = frozenset({"string"})
    answers_numbers = True
    heeds = frozenset({"predictionType"})
    outputs = (PREDICTION,)
    headline = RMSE
    loss = RMSE
    measured = (RMSE, MAE, R2)
    beside = MAE.name
    gates = (rise(RMSE),)

    def labels(self, train: Any) -> Moments:
        """Return what takes note of mean and deviation."""
        return Moments()

    def point(self, answers: Answers, places: Classes) -> Array:
        """Return the predictions."""
        return answers[PREDICTION].reshape(-1)

    def scores(self, classes: Classes, positive: int | str | None = None, compared: Classes = ()) -> RegressionScores:
        """Return what measures answers."""
        return RegressionScores()

    def baseline(self, metrics: Metrics, measure: Measure) -> Baseline | None:
        """Return what always answering the mean scores beside the version."""
        name = f"{BASELINE}{measure.name}"
        if not {name, measure.name} <= metrics.keys():
            return None
        return Baseline(measure, "always answering the mean", metrics[name], metrics[measure.name])
