"""Measurements of served graphs on labelled rows: accuracy, calibration, errors, fidelity and latency.

Everything works on graphs as bytes and raw columns, so the same functions measure what a trainer exported, what a
compressor made of it, and an older version on newer rows. Accuracies are in 0 to 1, losses in nats, errors
of predicted numbers in the label's unit, latencies in milliseconds.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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


def predict(graph: bytes, columns: Columns) -> Predictions:
    """Run every row through the graph."""
    probabilities, labels = run_in_batches(cpu_session(graph), columns, [PROBABILITIES, LABEL])
    return Predictions(probabilities, labels, class_values(graph))


def predict_numbers(graph: bytes, columns: Columns) -> Array:
    """Run every row through a regression's graph: [rows] float64, in the label's unit."""
    (predictions,) = run_in_batches(cpu_session(graph), columns, [PREDICTION])
    return predictions.astype(np.float64)


def evaluate(graph: bytes, columns: Columns, truth: Array) -> dict[str, float]:
    """Measure the graph on labelled rows: what `metrics_of` returns, or `errors_of` for a regression."""
    if predicts_numbers(graph):
        return errors_of(predict_numbers(graph, columns), truth)
    return metrics_of(predict(graph, columns), truth)


def errors_of(predictions: Array, truth: Array) -> dict[str, float]:
    """Return rmse (root of the mean squared error) and mae (mean absolute error), in the label's unit, and r2.

    r2 is the share of the label's variance that the predictions explain: 1 - squared errors / squared deviations from
    the rows' mean. Where all rows have one label it is 1 when all are right, and 0 otherwise.
    """
    _check_rows(predictions, truth)
    expected = truth.astype(np.float64)
    errors = predictions.astype(np.float64) - expected
    squares, spread = float(np.square(errors).sum()), float(np.square(expected - expected.mean()).sum())
    unexplained = squares / spread if spread > 0 else float(squares > 0)
    return {
        "rmse": float(np.sqrt(squares / len(truth))),
        "mae": float(np.abs(errors).mean()),
        "r2": 1.0 - unexplained,
    }


def metrics_of(predictions: Predictions, truth: Array) -> dict[str, float]:
    """Return accuracy, log_loss, calibration_error, and accuracy/<class> for each class that has rows."""
    return {
        "accuracy": accuracy(predictions.labels, truth),
        "log_loss": log_loss(predictions, truth),
        "calibration_error": calibration_error(predictions, truth),
        **{f"accuracy/{name}": value for name, value in accuracy_per_class(predictions, truth).items()},
    }


def accuracy(labels: Array, truth: Array) -> float:
    """Return the share of rows whose label is the true one. Raise ValueError when there are no rows."""
    _check_rows(labels, truth)
    return float(np.mean(labels == truth))


def accuracy_per_class(predictions: Predictions, truth: Array) -> dict[str, float]:
    """Return the share of right labels among the rows of each class. Classes without rows are left out."""
    return {
        str(value): accuracy(predictions.labels[truth == value], truth[truth == value])
        for value in predictions.classes
        if np.any(truth == value)
    }


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
    _check_rows(predictions.labels, truth)
    confidence = predictions.probabilities.max(axis=1).astype(np.float64)
    right = (predictions.labels == truth).astype(np.float64)
    # The bins are open at the left and closed at the right, ((m - 1) / M, m / M], as in the paper.
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(places, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def agreement(labels: Array, others: Array) -> float:
    """Return the share of rows to which two graphs give the same label."""
    return accuracy(labels, others)


def relative_logit_error(reference: bytes, other: bytes, columns: Columns) -> float:
    """Return the norm of the difference of two graphs' logits relative to the norm of the reference's logits.

    Norms are Frobenius norms over all rows. Accuracy hides flips that cancel each other; this does not.
    """
    expected, given = logits_of(reference, columns), logits_of(other, columns)
    norm = float(np.linalg.norm(expected))
    difference = float(np.linalg.norm(given - expected))
    if norm == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return difference / norm


def logits_of(graph: bytes, columns: Columns) -> Array:
    """Return what the graph computes before the softmax, [rows, classes] float64."""
    (logits,) = run_in_batches(cpu_session(with_logits(graph)), columns, [LOGITS])
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
