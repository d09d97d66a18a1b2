"""Regression: a number that comes close to the label."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, Final, Literal

import numpy as np
import pydantic

from headrace_data.tasks.gate import rise
from headrace_data.tasks.measure import AVERAGED, SQUARED, Array, Measure, require_rows
from headrace_data.tasks.task import Always, Answers, Classes, Task

PredictionType = Literal["float32", "float64"]
"""In which type a number is predicted."""
PREDICTION: Final = "prediction"
"""The output of a served graph: [rows] float32 or float64, in the label's unit."""
RMSE: Final = Measure("rmse", "label", "less", "rmse", adds_up=SQUARED)
MAE: Final = Measure("mae", "label", "less", "mae", "mean absolute error", AVERAGED)
R2: Final = Measure("r2", "", "more", "r²", "1 is perfect", most=1.0)
MOST_STEPS: Final = 100
"""Steps up to which each is told of: events have a size."""


class Errors:
    """Errors of predicted numbers that come batch by batch. Of one batch they are what they are of all rows at once.

    Deviations are merged as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances" (1979).
    """

    def __init__(self) -> None:
        self.rows = 0
        self._absolute = 0.0
        self.squares = 0.0
        self._mean = 0.0
        self.spread = 0.0

    def add(self, predictions: Array, truth: Array) -> None:
        """Add rows, in the label's unit; at least one."""
        require_rows(predictions, truth)
        expected = truth.astype(np.float64)
        errors = predictions.astype(np.float64) - expected
        self._absolute += float(np.abs(errors).sum())
        self.squares += float(np.square(errors).sum())
        mean, rows = float(expected.mean()), len(truth)
        delta, total = mean - self._mean, self.rows + rows
        self.spread += float(np.square(expected - mean).sum()) + delta * delta * (self.rows * rows / total)
        self._mean += delta * (rows / total)
        self.rows = total

    @property
    def rmse(self) -> float:
        """Root of the mean squared error, in the label's unit."""
        return float(np.sqrt(self.squares / self.rows))

    def metrics(self) -> dict[str, float]:
        """Return what `errors_of` says."""
        unexplained = self.squares / self.spread if self.spread > 0 else float(self.squares > 0)
        return {RMSE.name: self.rmse, MAE.name: self._absolute / self.rows, R2.name: 1.0 - unexplained}


def errors_of(predictions: Array, truth: Array) -> dict[str, float]:
    """Return rmse (root of the mean squared error) and mae (mean absolute error), in the label's unit, and r2.

    r2 is the share of the label's variance that the predictions explain: 1 - squared errors / squared deviations from
    the rows' mean. Where all rows have one label it is 1 when all are right, and 0 otherwise.
    """
    errors = Errors()
    errors.add(predictions, truth)
    return errors.metrics()


def joined_errors(steps: Sequence[Errors]) -> dict[str, float]:
    """Return what `errors_of` says of the errors of several steps of the same rows together."""
    if len(steps) == 1:
        return steps[0].metrics()
    squares, spread = sum(each.squares for each in steps), sum(each.spread for each in steps)
    return {
        RMSE.name: float(np.sqrt(squares / sum(each.rows for each in steps))),
        MAE.name: fmean(each.metrics()[MAE.name] for each in steps),
        R2.name: 1.0 - (squares / spread if spread > 0 else float(squares > 0)),
    }


class RegressionScores:
    """Measurements of a regression's answers: over all steps, and of each where several numbers are answered."""

    def __init__(self, steps: Classes = ()) -> None:
        """Measure answers of several numbers, whose names are `steps`; of a single one where there are none."""
        self._steps = steps
        self._errors = [Errors() for _ in steps or (None,)]

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one."""
        require_rows(answers[PREDICTION], truth)
        columns = (each.reshape(len(truth), len(self._errors)).T for each in (answers[PREDICTION], truth))
        for errors, given, expected in zip(self._errors, *columns, strict=True):
            errors.add(given, expected)

    def quality(self) -> dict[str, float]:
        """Return rmse, mae and r2: over all steps, whose variance is that around each step's own mean."""
        return joined_errors(self._errors)

    def metrics(self) -> dict[str, float]:
        """Return the same, and rmse/<step> and mae/<step>; of more than `MOST_STEPS` none of these."""
        if not 0 < len(self._steps) <= MOST_STEPS:
            return self.quality()
        of_steps = [(step, each.metrics()) for step, each in zip(self._steps, self._errors, strict=True)]
        return self.quality() | {
            f"{measure.name}/{step}": found[measure.name] for measure in (RMSE, MAE) for step, found in of_steps
        }


def always_the_mean(mean: float | Array, steps: Classes = ()) -> Always:
    """Return what measures always the training split's mean, of each step its own."""
    return Always(RegressionScores(steps), lambda rows: {PREDICTION: np.full((rows, *np.shape(mean)), mean)}, {})


class Moments:
    """Mean and deviation of labels, merged as in Chan, Golub and LeVeque (1979): of each place where they have some."""

    def __init__(self, steps: Classes = ()) -> None:
        self.steps = steps
        """Names of the label's places; none of a single value."""
        self._count = 0
        self._squares: Array = np.zeros(len(steps) or ())
        self._mean: Array = np.zeros(len(steps) or ())

    def add(self, labels: Array) -> None:
        """Add the labels of some rows."""
        values = labels.astype(np.float64)
        mean, count = values.mean(axis=0), len(values)
        delta, total = mean - self._mean, self._count + count
        self._squares = self._squares + (
            np.square(values - mean).sum(axis=0) + delta * delta * (self._count * count / total)
        )
        self._mean = self._mean + delta * (count / total)
        self._count = total

    @property
    def mean(self) -> Any:
        """The mean: a number, or one for each place, [places]."""
        return self._mean if self.steps else float(self._mean)

    @property
    def deviation(self) -> Any:
        """The population's standard deviation; 1 where all labels are equal, and the mean says it all."""
        found = np.sqrt(self._squares / self._count)
        return np.where(found == 0, 1.0, found) if self.steps else float(found) or 1.0

    def baseline(self) -> Always:
        """Return what measures always the mean."""
        return always_the_mean(self.mean, self.steps)


class NumberSettings(pydantic.BaseModel):
    """What `train` says of numbers that are answered."""

    prediction_type: PredictionType | None = pydantic.Field(
        default=None,
        description="Of tasks that answer numbers: their type; clients read FP32 or FP64. Left out of a pipeline that "
        "is applied for the first time: float64 for a label of type float64, int32, int64 or uint32, of which float32 "
        "holds seven digits only. Left out later: as it was, and float32 in pipelines from before there was a choice.",
    )


class Regression(Task):
    """A number that comes close to the label, or one for each of its places."""

    kind = "regression"
    answer = "a number that comes close to the label, or to each of its places"
    unfit = frozenset({"string"})
    dimensions = frozenset({0, 1})
    answers_numbers = True
    heeds = frozenset({"predictionType"})
    outputs = (PREDICTION,)
    headline = RMSE
    loss = RMSE
    measured = (RMSE, MAE, R2)
    beside = MAE.name
    always = "always answering the mean"
    has_row_losses = True
    gates = (rise(RMSE),)

    def labels(self, train: Any, places: Classes = ()) -> Moments:
        """Return what takes note of mean and deviation."""
        return Moments(places)

    def point(self, answers: Answers, places: Classes) -> Array:
        """Return the predictions."""
        return answers[PREDICTION]

    def row_losses(self, answers: Answers, truth: Array, _classes: Classes) -> Array:
        """Return the squared error of each row, the mean over steps where there are several."""
        errors = answers[PREDICTION].astype(np.float64) - truth.astype(np.float64)
        losses: Array = np.square(errors).reshape(len(errors), -1).mean(axis=1)
        return losses

    def scores(
        self, classes: Classes, positive: int | str | None = None, compared: Classes = (), steps: Classes = ()
    ) -> RegressionScores:
        """Return what measures answers."""
        return RegressionScores(steps)
