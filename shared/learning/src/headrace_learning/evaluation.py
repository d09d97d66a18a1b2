"""Measurements of served graphs on labelled rows: accuracy, calibration, errors, fidelity and latency.

Everything works on graphs as bytes and raw columns, so the same functions measure what a trainer exported, what a
compressor made of it, and an older version on newer rows. Accuracies are in 0 to 1, losses in nats, errors
of predicted numbers in the label's unit, latencies in milliseconds.
"""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from headrace_learning.graphs import (
    LABEL,
    LOGITS,
    PREDICTION,
    PROBABILITIES,
    Array,
    Columns,
    class_values,
    predicts_numbers,
    with_logits,
)
from headrace_learning.sessions import cpu_session, run_in_batches

CALIBRATION_BINS = 15
_WARM_UP_RUNS = 5
_FEWEST_RUNS = 20
_SMALLEST_PROBABILITY = 1e-7
"""Where the logarithm is cut off: about float32's resolution near one."""


@dataclass(frozen=True)
class Predictions:
    """What a graph answered to some rows."""

    probabilities: Array
    """[rows, classes] float32."""
    labels: Array
    """[rows], label values."""
    classes: Sequence[int] | Sequence[str]
    """Label values in the order of the probabilities' columns."""


Labelled = Iterable[tuple[Columns, Array]]
"""Rows in batches: raw features by name, and the label's values, [rows]."""


class Classifier:
    """A classification's graph, ready to run."""

    def __init__(self, graph: bytes) -> None:
        self._session = cpu_session(graph)
        self.classes = class_values(graph)

    def predict(self, columns: Columns) -> Predictions:
        """Run every row through the graph."""
        probabilities, labels = run_in_batches(self._session, columns, [PROBABILITIES, LABEL])
        return Predictions(probabilities, labels, self.classes)


def predict(graph: bytes, columns: Columns) -> Predictions:
    """Run every row through the graph."""
    return Classifier(graph).predict(columns)


def predict_numbers(graph: bytes, columns: Columns) -> Array:
    """Run every row through a regression's graph: [rows] float64, in the label's unit."""
    return _numbers(cpu_session(graph), columns)


def _numbers(session: ort.InferenceSession, columns: Columns) -> Array:
    (predictions,) = run_in_batches(session, columns, [PREDICTION])
    return predictions.astype(np.float64)


def evaluate(graph: bytes, columns: Columns, truth: Array) -> dict[str, float]:
    """Measure the graph on labelled rows: what `metrics_of` returns, or `errors_of` for a regression."""
    return evaluate_batches(graph, [(columns, truth)])


def evaluate_batches(graph: bytes, rows: Labelled) -> dict[str, float]:
    """Measure the graph on rows that come batch by batch: what `evaluate` returns of all of them."""
    if predicts_numbers(graph):
        session, errors = cpu_session(graph), Errors()
        for columns, truth in rows:
            errors.add(_numbers(session, columns), truth)
        return errors.metrics()
    classifier = Classifier(graph)
    scores = Scores(classifier.classes)
    for columns, truth in rows:
        scores.add(classifier.predict(columns), truth)
    return scores.metrics()


class Mean:
    """A mean of rows that come batch by batch. Of one batch it is that batch's mean, to the last bit."""

    def __init__(self) -> None:
        self.value = 0.0
        self._weight = 0.0

    def add(self, mean: float, weight: float) -> None:
        """Add rows: their mean and their weight, such as their number; above zero."""
        self._weight += weight
        self.value += (mean - self.value) * (weight / self._weight)


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
        _check_rows(predictions, truth)
        expected = truth.astype(np.float64)
        errors = predictions.astype(np.float64) - expected
        self._absolute += float(np.abs(errors).sum())
        self._squares += float(np.square(errors).sum())
        mean, rows = float(expected.mean()), len(truth)
        delta, total = mean - self._mean, self._rows + rows
        self._spread += float(np.square(expected - mean).sum()) + delta * delta * (self._rows * rows / total)
        self._mean += delta * (rows / total)
        self._rows = total

    def metrics(self) -> dict[str, float]:
        """Return what `errors_of` says."""
        unexplained = self._squares / self._spread if self._spread > 0 else float(self._squares > 0)
        return {
            "rmse": float(np.sqrt(self._squares / self._rows)),
            "mae": self._absolute / self._rows,
            "r2": 1.0 - unexplained,
        }


class Scores:
    """Measurements of classified rows that come batch by batch. Of one batch they are those of all rows at once."""

    def __init__(self, classes: Sequence[int] | Sequence[str]) -> None:
        self._classes = classes
        self._rows = 0
        self._accuracy, self._log_loss = Mean(), Mean()
        self._gaps = np.zeros(CALIBRATION_BINS)
        self._of_class: defaultdict[int | str, Mean] = defaultdict(Mean)

    def add(self, predictions: Predictions, truth: Array) -> None:
        """Add rows; at least one."""
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
            "accuracy": self._accuracy.value,
            "log_loss": self._log_loss.value,
            "calibration_error": float(np.abs(self._gaps).sum() / self._rows),
        }

    def metrics(self) -> dict[str, float]:
        """Return what `metrics_of` says."""
        found = {value: self._of_class[value].value for value in self._classes if value in self._of_class}
        return self.quality() | {f"accuracy/{value}": share for value, share in found.items()}


def errors_of(predictions: Array, truth: Array) -> dict[str, float]:
    """Return rmse (root of the mean squared error) and mae (mean absolute error), in the label's unit, and r2.

    r2 is the share of the label's variance that the predictions explain: 1 - squared errors / squared deviations from
    the rows' mean. Where all rows have one label it is 1 when all are right, and 0 otherwise.
    """
    errors = Errors()
    errors.add(predictions, truth)
    return errors.metrics()


def metrics_of(predictions: Predictions, truth: Array) -> dict[str, float]:
    """Return accuracy, log_loss, calibration_error, and accuracy/<class> for each class that has rows."""
    scores = Scores(predictions.classes)
    scores.add(predictions, truth)
    return scores.metrics()


def accuracy(labels: Array, truth: Array) -> float:
    """Return the share of rows whose label is the true one. Raise ValueError when there are no rows."""
    _check_rows(labels, truth)
    return float(np.mean(labels == truth))


def log_loss(predictions: Predictions, truth: Array) -> float:
    """Return the mean negative logarithm of the true class's probability, in nats.

    A row whose class the graph does not know counts as if its probability were the smallest: an older version measured
    on newer rows must not look better for what it cannot say.
    """
    _check_rows(predictions.labels, truth)
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


def _calibration_gaps(predictions: Predictions, truth: Array, bins: int) -> Array:
    """Return by how much right answers fall short of confidence in each bin, summed over its rows."""
    _check_rows(predictions.labels, truth)
    confidence = predictions.probabilities.max(axis=1).astype(np.float64)
    right = (predictions.labels == truth).astype(np.float64)
    # The bins are open at the left and closed at the right, ((m - 1) / M, m / M], as in the paper.
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.bincount(places, weights=right - confidence, minlength=bins)


def agreement(labels: Array, others: Array) -> float:
    """Return the share of rows to which two graphs give the same label."""
    return accuracy(labels, others)


def relative_logit_error(reference: bytes, other: bytes, columns: Columns) -> float:
    """Return the norm of the difference of two graphs' logits relative to the norm of the reference's logits.

    Norms are Frobenius norms over all rows. Accuracy hides flips that cancel each other; this does not.
    """
    error = LogitError(reference, other)
    error.add(columns)
    return error.relative


class LogitError:
    """How far the logits of two graphs are apart on rows that come batch by batch."""

    def __init__(self, reference: bytes, other: bytes) -> None:
        self._sessions = [cpu_session(with_logits(graph)) for graph in (reference, other)]
        self._norm = 0.0
        self._difference = 0.0

    def add(self, columns: Columns) -> None:
        """Run rows through both."""
        expected, given = (_logits(session, columns) for session in self._sessions)
        self._norm = math.hypot(self._norm, float(np.linalg.norm(expected)))
        self._difference = math.hypot(self._difference, float(np.linalg.norm(given - expected)))

    @property
    def relative(self) -> float:
        """What `relative_logit_error` says."""
        if self._norm == 0.0:
            return 0.0 if self._difference == 0.0 else float("inf")
        return self._difference / self._norm


def logits_of(graph: bytes, columns: Columns) -> Array:
    """Return what the graph computes before the softmax, [rows, classes] float64."""
    return _logits(cpu_session(with_logits(graph)), columns)


def _logits(session: ort.InferenceSession, columns: Columns) -> Array:
    (logits,) = run_in_batches(session, columns, [LOGITS])
    return logits.astype(np.float64)


def median_latencies_ms(graphs: Sequence[bytes], columns: Columns, batch: int, budget_s: float = 0.5) -> list[float]:
    """Return each graph's median time of one run with `batch` rows on one thread, in milliseconds.

    The graphs take turns, so that whatever else the machine does meanwhile burdens all of them alike. Measures for
    about `budget_s` seconds in all and at least 20 runs of each, after a few that warm up. Fewer rows than `batch` are
    repeated to fill it.
    """
    feeds = {name: np.resize(column, (batch, *column.shape[1:])) for name, column in columns.items()}
    sessions = [cpu_session(graph) for graph in graphs]
    turns = [(session, {each.name: feeds[each.name] for each in session.get_inputs()}) for session in sessions]
    for _ in range(_WARM_UP_RUNS):
        for session, feed in turns:
            session.run(None, feed)
    times: list[list[float]] = [[] for _ in turns]
    end = time.perf_counter() + budget_s
    while len(times[0]) < _FEWEST_RUNS or time.perf_counter() < end:
        for (session, feed), taken in zip(turns, times, strict=True):
            start = time.perf_counter()
            session.run(None, feed)
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) * 1e3 for taken in times]


def _check_rows(labels: Array, truth: Array) -> None:
    if len(labels) != len(truth):
        raise ValueError(f"labels: expected one for each of {len(truth)} rows, got {len(labels)}")
    if len(truth) == 0:
        raise ValueError("rows: expected at least one to measure, got none")


def _columns_of(classes: Sequence[int] | Sequence[str], truth: Array) -> Array:
    """Return the column of each row's true class, -1 where the class is unknown."""
    places = {value: place for place, value in enumerate(classes)}
    return np.array([places.get(value, -1) for value in truth.tolist()], dtype=np.int64)
