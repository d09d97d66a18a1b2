"""Classification: one of the label's values, with the probability of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Any, Final

import numpy as np

from headrace_data.tasks.areas import Areas
from headrace_data.tasks.gate import Gate, drop
from headrace_data.tasks.measure import AVERAGED, COUNTED, ROUNDING, Array, Mean, Measure, Metrics, require_rows
from headrace_data.tasks.task import BASELINE, Always, Answers, Baseline, Classes, Task

PROBABILITIES: Final = "probabilities"
"""An output of a served graph: [rows, classes] float32."""
LABEL: Final = "label"
"""An output of a served graph: [rows], values of the label."""
ACCURACY: Final = Measure("accuracy", "share", "more", "accuracy", adds_up=COUNTED)
LOG_LOSS: Final = Measure("log_loss", "nats", "less", "log loss", "nats", AVERAGED)
CALIBRATION_ERROR: Final = Measure("calibration_error", "share", "less", "calibration error", "lower is better")
PRECISION: Final = Measure("precision", "share", "more", "precision", "of the answers, how many are right")
RECALL: Final = Measure("recall", "share", "more", "recall", "of the rows, how many are found")
F1: Final = Measure("f1", "share", "more", "F1", "harmonic mean of precision and recall")
ROC_AUC: Final = Measure("roc_auc", "share", "more", "ROC-AUC", "0.5 is chance")
PR_AUC: Final = Measure("pr_auc", "share", "more", "PR-AUC", "average precision")
AGREEMENT: Final = "agreement"
"""Share of rows with the same answer as fp32's."""
LOGIT_ERROR: Final = "relative_logit_error"
"""Norm of the logits' difference from fp32's, over the norm of fp32's."""
LEARNED_DIVERGENCE: Final = 0.1
"""Limit of klDivergence, in nats, of variants that learn anew where the spec says none."""
DIVERGENCE: Final = "kl_divergence"
"""Mean Kullback-Leibler divergence of the probabilities from fp32's, in nats."""
CALIBRATION_BINS: Final = 15
MOST_OF_CLASS: Final = 100
"""Classes up to which precision and F1 of each are told: events have a size."""
_OF_CLASS: Final = f"{ACCURACY.name}/"
_BASELINE: Final = f"{BASELINE}{ACCURACY.name}/"
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

    def __init__(self, classes: Classes, positive: int | str | None = None, compared: Classes = ()) -> None:
        """`positive` is the class that is looked for; the second of two by default, and each of more in turn.

        `compared` are the classes of all that is compared: of more than two each is looked for, whoever knows them.
        """
        self._classes = classes
        self._wanted = positive
        self._one_of_two = len({*classes, *compared}) == 2
        self._positive = next((place for place, value in enumerate(classes) if value == positive), None)
        self._strangers = Counter[int | str]()
        """Rows by true classes that the graph does not know."""
        self._rows = 0
        self._log_loss = Mean()
        self._gaps = np.zeros(CALIBRATION_BINS)
        # Rows by the place of the true class, and by that of the answer; what is no class of the graph counts last.
        self._true, self._answered, self._right = np.zeros((3, len(self._classes) + 1), dtype=np.int64)
        self._scores = Areas()

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows; at least one."""
        predictions = Predictions(answers[PROBABILITIES], answers[LABEL], self._classes)
        true, given = (_places(self._classes, each) for each in (truth, predictions.labels))
        self._rows += len(truth)
        self._strangers.update(truth[true == len(self._classes)].tolist())
        self._log_loss.add(log_loss(predictions, truth), len(truth))
        self._gaps += _calibration_gaps(predictions, truth, CALIBRATION_BINS)
        for counts, places in ((self._true, true), (self._answered, given), (self._right, true[true == given])):
            counts += np.bincount(places, minlength=len(counts))
        columns = slice(None) if self._positive is None else [self._positive]
        self._scores.add(predictions.probabilities[:, columns], true)

    def quality(self) -> dict[str, float]:
        """Return the measures; those of a class that is looked for are left out where no row is of it.

        A class that the graph does not know is one that it never finds: an older version measured on newer rows must
        not look better for what it cannot say.
        """
        return {
            ACCURACY.name: float(self._right.sum() / self._rows),
            LOG_LOSS.name: self._log_loss.value,
            CALIBRATION_ERROR.name: float(np.abs(self._gaps).sum() / self._rows),
            **self._found(),
            **self._areas(),
        }

    def metrics(self) -> dict[str, float]:
        """Return what `metrics_of` says."""
        there: list[int] = np.flatnonzero(self._true[:-1]).tolist()
        parts = {f"{_OF_CLASS}{self._classes[place]}": self._recall(place) for place in there}
        if len(self._classes) <= MOST_OF_CLASS:
            for measure, of in ((PRECISION, self._precision), (F1, self._f1)):
                parts |= {f"{measure.name}/{self._classes[place]}": of(place) for place in there}
        return self.quality() | parts

    def _precision(self, place: int) -> float:
        """Return the share of right answers among those of a class; 0 where it is never answered."""
        return float(self._right[place] / max(self._answered[place], 1))

    def _recall(self, place: int) -> float:
        return float(self._right[place] / max(self._true[place], 1))

    def _f1(self, place: int) -> float:
        return float(2 * self._right[place] / max(self._answered[place] + self._true[place], 1))

    def _looked_for(self) -> tuple[list[int], list[int]]:
        """Return the places of the classes that count, and the rows of each that the graph does not know."""
        if self._positive is not None:
            return [self._positive], []
        if self._wanted is not None:
            return [], [self._strangers[self._wanted]] if self._wanted in self._strangers else []
        if self._one_of_two and len(self._classes) == 2 and not self._strangers:
            return [1], []
        return list(range(len(self._classes))), list(self._strangers.values())

    def _found(self) -> dict[str, float]:
        places, unknown = self._looked_for()
        # As scikit-learn averages: over the classes that have rows or answers.
        is_mean = len(places) > 1
        there = [place for place in places if self._true[place] or (is_mean and self._answered[place])]
        of = ((PRECISION, self._precision), (RECALL, self._recall), (F1, self._f1))
        found = {measure.name: [*map(value, there), *(0.0 for _ in unknown)] for measure, value in of}
        return {name: fmean(values) for name, values in found.items() if values}

    def _areas(self) -> dict[str, float]:
        places, unknown = self._looked_for()
        columns = [0 if self._positive is not None else place for place in places]
        found = [each for pair in zip(columns, places, strict=True) if (each := self._scores.areas(*pair))]
        # Equal scores for every row: half of the pairs are in order, and any threshold finds the share that there is.
        found += [(0.5, rows / self._rows) for rows in unknown if rows < self._rows]
        if not found:
            return {}
        return {ROC_AUC.name: fmean(roc for roc, _ in found), PR_AUC.name: fmean(area for _, area in found)}


def metrics_of(predictions: Predictions, truth: Array) -> dict[str, float]:
    """Return the measures, and accuracy/<class>, which is its recall, precision/<class> and f1/<class>.

    Only classes that have rows are told of; of more than `MOST_OF_CLASS` classes the accuracy alone.
    """
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
    return float(np.mean(_log_losses(predictions.probabilities, truth, predictions.classes)))


def _log_losses(probabilities: Array, truth: Array, classes: Classes) -> Array:
    """Return the negative logarithm of each row's true class's probability, in nats."""
    places, known = _places(classes, truth), len(classes)
    columns = np.minimum(places, known - 1)
    given = np.where(places < known, probabilities[np.arange(len(truth)), columns].astype(np.float64), 0.0)
    losses: Array = -np.log(np.clip(given, _SMALLEST_PROBABILITY, 1.0))
    return losses


def calibration_error(predictions: Predictions, truth: Array, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error: how far confidence is from accuracy, weighted by rows.

    Equal-width bins over the highest probability, as in Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern
    Neural Networks", ICML 2017, equation 3.
    """
    return float(np.abs(_calibration_gaps(predictions, truth, bins)).sum() / len(truth))


def kl_divergence(expected: Array, given: Array) -> float:
    """Return the mean Kullback-Leibler divergence of `given` from `expected`, both [rows, classes], in nats.

    A probability too small for float32 counts as the smallest that float32 holds in full.
    """
    smallest = np.finfo(np.float32).tiny
    p, q = (np.clip(each.astype(np.float64), smallest, 1.0) for each in (expected, given))
    # Rounding leaves equal distributions a hair below zero; the divergence itself never is.
    return max(0.0, float(np.mean(np.sum(p * np.log(p / q), axis=1))))


def agreement(labels: Array, others: Array) -> float:
    """Return the share of rows to which two graphs give the same label."""
    return accuracy(labels, others)


def classes_of(metrics: Metrics) -> list[str]:
    """Return the classes that a version was measured by, as texts; none of other tasks."""
    return [name.removeprefix(_OF_CLASS) for name in metrics if name.startswith(_OF_CLASS)]


def _calibration_gaps(predictions: Predictions, truth: Array, bins: int) -> Array:
    """Return by how much being right falls short of confidence in each bin, summed over its rows.

    Probabilities are held against the likeliest class, whatever a threshold makes the answer.
    """
    require_rows(predictions.labels, truth)
    confidence = predictions.probabilities.max(axis=1).astype(np.float64)
    right = (predictions.probabilities.argmax(axis=1) == _places(predictions.classes, truth)).astype(np.float64)
    # The bins are open at the left and closed at the right, ((m - 1) / M, m / M], as in the paper.
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.bincount(places, weights=right - confidence, minlength=bins)


def _places(classes: Classes, values: Array) -> Array:
    """Return the place of each value among the classes, the number of classes where it is none of them."""
    known = np.array(classes, dtype=object if values.dtype == object else None)
    order = np.argsort(known)
    found = order[np.minimum(np.searchsorted(known, values, sorter=order), len(known) - 1)]
    return np.where(known[found] == values, found, len(known))


def always_one_class(counts: Mapping[int | str, int], positive: int | str | None = None) -> Always:
    """Return what measures always the commonest class, with the shares of the training split as probabilities.

    `counts` are the split's rows by class. Of several that are equally common the first in order is answered.
    """
    classes = sorted(counts)
    commonest = min(classes, key=lambda value: -counts[value])
    shares = np.array([[counts[value] for value in classes]], dtype=np.float32) / max(1, sum(counts.values()))
    label = np.array([commonest], dtype=object if isinstance(commonest, str) else np.int64)

    def answers(rows: int) -> Answers:
        return {PROBABILITIES: np.repeat(shares, rows, axis=0), LABEL: np.repeat(label, rows)}

    return Always(ClassScores(classes, positive), answers, {ACCURACY.name: f"{_BASELINE}{commonest}"})


class ClassCounts:
    """Rows by the value of the label."""

    def __init__(self, positive: int | str | None = None) -> None:
        """`positive` is the class that is looked for."""
        self.counts: Counter[int | str] = Counter()
        self._positive = positive

    def add(self, labels: Array) -> None:
        """Add the labels of some rows."""
        values, counts = np.unique(labels, return_counts=True)
        self.counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def baseline(self) -> Always:
        """Return what measures always the commonest class."""
        return always_one_class(self.counts, self._positive)


_DIVERGES: Final = Gate("klDivergence", DIVERGENCE, lambda own, _: own.get(DIVERGENCE, nan), 0.0)


class Classification(Task):
    """One of the label's values, with the probability of each."""

    kind = "classification"
    answer = "one of the label's values"
    unfit = frozenset({"float32", "float64"})
    counts_labels = True
    heeds = frozenset({"classWeights", "positive", "threshold"})
    outputs = (PROBABILITIES, LABEL)
    headline = ACCURACY
    loss = LOG_LOSS
    measured = (ACCURACY, LOG_LOSS, CALIBRATION_ERROR, PRECISION, RECALL, F1, ROC_AUC, PR_AUC)
    won_by_constants = frozenset({CALIBRATION_ERROR.name, RECALL.name})
    beside = AGREEMENT
    has_logits = True
    has_row_losses = True
    gates = (
        drop(ACCURACY, "accuracyDrop", "accuracy_drop"),
        Gate("agreement", AGREEMENT, lambda own, _: own.get(AGREEMENT, nan), 1.0, at_least=True),
        Gate("relativeLogitError", LOGIT_ERROR, lambda own, _: own.get(LOGIT_ERROR, nan), 0.0, of_weights=True),
        _DIVERGES,
    )
    learned = ((_DIVERGES, LEARNED_DIVERGENCE),)

    def labels(self, train: Any, places: Classes = ()) -> ClassCounts:
        """Return what counts the rows of each class."""
        value = train.positive
        return ClassCounts(int(value) if isinstance(value, bool) else value)

    def places(self, train: Any, values: Classes) -> Classes:
        """Return the label's values."""
        return values

    def row_losses(self, answers: Answers, truth: Array, classes: Classes) -> Array:
        """Return the cross-entropy of each row, in nats."""
        return _log_losses(answers[PROBABILITIES], truth, classes)

    def alike(self, expected: Answers, given: Answers) -> dict[str, float]:
        """Return the share of equal labels, and how far the probabilities diverge."""
        return {
            AGREEMENT: agreement(expected[LABEL], given[LABEL]),
            DIVERGENCE: kl_divergence(expected[PROBABILITIES], given[PROBABILITIES]),
        }

    def scores(
        self, classes: Classes, positive: int | str | None = None, compared: Classes = (), steps: Classes = ()
    ) -> ClassScores:
        """Return what measures answers."""
        return ClassScores(classes, positive, compared)

    def baseline(self, metrics: Metrics, measure: Measure) -> Baseline | None:
        """Return what always answering one class scores beside the version."""
        named = next((name for name in metrics if name.startswith(_BASELINE)), None)
        if named is None or measure.name not in metrics:
            return None
        value = metrics[named] if measure is ACCURACY else metrics.get(f"{BASELINE}{measure.name}")
        answer = named.removeprefix(_BASELINE)
        own = metrics[measure.name]
        return None if value is None else Baseline(measure, f"always answering '{answer}'", value, own, answer)

    def why_useless(self, metrics: Metrics, measure: Measure, *, balanced: bool) -> str:
        """Return what shows that a version answers worse than its baseline.

        Where every class counts alike a version may rightly miss the commonest class more often: there the mean of the
        classes' accuracies is compared, which always the same answer brings to one in as many classes as have test
        rows. With one class alone nothing is told by it.
        """
        classes = [value for name, value in metrics.items() if name.startswith(_OF_CLASS)]
        if measure is not ACCURACY or not balanced or not classes or measure.name not in metrics:
            return super().why_useless(metrics, measure, balanced=balanced)
        own, chance = fmean(classes), 1.0 / len(classes)
        if len(classes) == 1 or own >= chance * (1.0 - ROUNDING):
            return ""
        return f"the mean of the classes' accuracies is {own:.4f}, and {chance:.4f} with always the same answer"
