"""Classification: one of the label's values, with the probability of each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Final

import numpy as np

from headrace_data.tasks.gate import Gate
from headrace_data.tasks.measure import COUNTED, ROUNDING, Array, Mean, Measure, Metrics, require_rows
from headrace_data.tasks.task import Answers, Baseline, Classes, Task

PROBABILITIES: Final = "probabilities"
"""An output of a served graph: [rows, classes] float32."""
LABEL: Final = "label"
"""An output of a served graph: [rows], values of the label."""
ACCURACY: Final = Measure("accuracy", "share", "more", "accuracy", adds_up=COUNTED)
LOG_LOSS: Final = Measure("log_loss", "nats", "less", "log loss", "nats")
CALIBRATION_ERROR: Final = Measure("calibration_error", "share", "less", "calibration error", "lower is better")
AGREEMENT: Final = "agreement"
"""Share of rows with the same answer as fp32's."""
LOGIT_ERROR: Final = "relative_logit_error"
"""Norm of the logits' difference from fp32's, over the norm of fp32's."""
CALIBRATION_BINS: Final = 15
_OF_CLASS: Final = f"{ACCURACY.name}/"
_BASELINE: Final = f"baseline_{ACCURACY.name}/"
_SMALLEST_PROBABILITY: Final = 1e-7
"""Where the logarithm is cut off: about float32's resolution near one."""


@dataclass(frozen=True)
class Predictions:
    """What a classifier answered to some rows."""

    probabilities: Array
    """[rows, classes] float32."""
    labels: Array
    """[rows], label values."""
    classes: Classes
    """Label values in the order of the probabilities' columns."""


class ClassScores:
    """Measurements of classified rows."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._rows = 0
        self._accuracy, self._log_loss = Mean(), Mean()
        self._gaps = np.zeros(CALIBRATION_BINS)
        self._of_class: defaultdict[int | str, Mean] = defaultdict(Mean)

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one."""
        predictions = Predictions(answers[PROBABILITIES], answers[LABEL], self._classes)
        rows = len(truth)
        self._rows += rows
        self._accuracy.add(accuracy(predictions.labels, truth), rows)
        self._log_loss.add(log_loss(predictions, truth), rows)
        self._gaps += _calibration_gaps(predictions, truth, CALIBRATION_BINS)
        for value in self._classes:
            of_class = truth == value
            if count := int(np.count_nonzero(of_class)):
                self._of_class[value].add(accuracy(predictions.labels[of_class], truth[of_class]), count)

    def quality(self) -> dict[str, float]:
        """Return accuracy, log_loss and calibration_error."""
        return {
            ACCURACY.name: self._accuracy.value,
            LOG_LOSS.name: self._log_loss.value,
            CALIBRATION_ERROR.name: float(np.abs(self._gaps).sum() / self._rows),
        }

    def metrics(self) -> dict[str, float]:
        """Return what `metrics_of` says."""
        found = {value: self._of_class[value].value for value in self._classes if value in self._of_class}
        return self.quality() | {f"{_OF_CLASS}{value}": share for value, share in found.items()}


def metrics_of(predictions: Predictions, truth: Array) -> dict[str, float]:
    """Return accuracy, log_loss, calibration_error, and accuracy/<class> for each class that has rows."""
    scores = ClassScores(predictions.classes)
    scores.add({PROBABILITIES: predictions.probabilities, LABEL: predictions.labels}, truth)
    return scores.metrics()


def accuracy(labels: Array, truth: Array) -> float:
    """Return the share of rows whose label is the true one. Raise ValueError when there are no rows."""
    require_rows(labels, truth)
    return float(np.mean(labels == truth))


def log_loss(predictions: Predictions, truth: Array) -> float:
    """Return the mean negative logarithm of the true class's probability, in nats.

    A row whose class the graph does not know counts as if its probability were the smallest: an older version measured
    on newer rows must not look better for what it cannot say.
    """
    require_rows(predictions.labels, truth)
    columns = _columns_of(predictions.classes, truth)
    rows = np.arange(len(truth))
    given = np.where(columns >= 0, predictions.probabilities[rows, columns].astype(np.float64), 0.0)
    return float(np.mean(-np.log(np.clip(given, _SMALLEST_PROBABILITY, 1.0))))


def calibration_error(predictions: Predictions, truth: Array, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error: how far confidence is from accuracy, weighted by rows.

    Equal-width bins over the highest probability, as in Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern
    Neural Networks", ICML 2017, equation 3.
    """
    return float(np.abs(_calibration_gaps(predictions, truth, bins)).sum() / len(truth))


def agreement(labels: Array, others: Array) -> float:
    """Return the share of rows to which two graphs give the same label."""
    return accuracy(labels, others)


def classes_of(metrics: Metrics) -> list[str]:
    """Return the classes that a version was measured by, as texts; none of other tasks."""
    return [name.removeprefix(_OF_CLASS) for name in metrics if name.startswith(_OF_CLASS)]


def _calibration_gaps(predictions: Predictions, truth: Array, bins: int) -> Array:
    """Return by how much right answers fall short of confidence in each bin, summed over its rows."""
    require_rows(predictions.labels, truth)
    confidence = predictions.probabilities.max(axis=1).astype(np.float64)
    right = (predictions.labels == truth).astype(np.float64)
    # The bins are open at the left and closed at the right, ((m - 1) / M, m / M], as in the paper.
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.bincount(places, weights=right - confidence, minlength=bins)


def _columns_of(classes: Classes, truth: Array) -> Array:
    """Return the column of each row's true class, -1 where the class is unknown."""
    places = {value: place for place, value in enumerate(classes)}
    return np.array([places.get(value, -1) for value in truth.tolist()], dtype=np.int64)


class AlwaysOneClass:
    """What always the same class scores."""

    def __init__(self, answer: float | str) -> None:
        self._answer = answer
        self._right = Mean()

    def add(self, truth: Array) -> None:
        """Add the labels of some rows; at least one."""
        self._right.add(float(np.mean(truth == self._answer)), len(truth))

    def metrics(self) -> dict[str, float]:
        """Return baseline_accuracy/<answer>, 0 to 1."""
        return {f"{_BASELINE}{self._answer}": self._right.value}


def _drop(own: Metrics, reference: Metrics) -> float:
    return reference.get(ACCURACY.name, nan) - own.get(ACCURACY.name, nan)


class Classification(Task):
    """One of the label's values, with the probability of each."""

    kind = "classification"
    unfit = frozenset({"float32", "float64"})
    outputs = (PROBABILITIES, LABEL)
    headline = ACCURACY
    measured = (ACCURACY, LOG_LOSS, CALIBRATION_ERROR)
    beside = AGREEMENT
    gates = (
        Gate("accuracyDrop", "accuracy_drop", _drop, 0.0),
        Gate("agreement", AGREEMENT, lambda own, _: own.get(AGREEMENT, nan), 1.0, at_least=True),
        Gate("relativeLogitError", LOGIT_ERROR, lambda own, _: own.get(LOGIT_ERROR, nan), 0.0),
    )

    def scores(self, classes: Classes) -> ClassScores:
        """Return what measures answers."""
        return ClassScores(classes)

    def always(self, answer: float | str) -> AlwaysOneClass:
        """Return what measures always the training split's commonest class."""
        return AlwaysOneClass(answer)

    def baseline(self, metrics: Metrics) -> Baseline | None:
        """Return the accuracy of always answering one class beside the version's."""
        named = next((name for name in metrics if name.startswith(_BASELINE)), None)
        if named is None or ACCURACY.name not in metrics:
            return None
        answer = named.removeprefix(_BASELINE)
        always = f"always answering '{answer}'"
        return Baseline(ACCURACY, always, metrics[named], metrics[ACCURACY.name], answer)

    def why_useless(self, metrics: Metrics, *, balanced: bool) -> str:
        """Return what shows that a version answers worse than its baseline.

        Where every class counts alike a version may rightly miss the commonest class more often: there the mean of the
        classes' accuracies is compared, which always the same answer brings to one in as many classes as have test
        rows. With one class alone nothing is told by it.
        """
        classes = [value for name, value in metrics.items() if name.startswith(_OF_CLASS)]
        if not balanced or not classes or ACCURACY.name not in metrics:
            return super().why_useless(metrics, balanced=balanced)
        own, chance = fmean(classes), 1.0 / len(classes)
        if len(classes) == 1 or own >= chance * (1.0 - ROUNDING):
            return ""
        return f"the mean of the classes' accuracies is {own:.4f}, and {chance:.4f} with always the same answer"
