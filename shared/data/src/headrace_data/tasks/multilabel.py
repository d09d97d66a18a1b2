"""Multi-label classification: of each place of the label whether it is there, with the probability of that."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from statistics import fmean
from typing import Any, Final

import numpy as np

from headrace_data.tasks.areas import Areas
from headrace_data.tasks.classification import AGREEMENT, F1, LOGIT_ERROR, MOST_OF_CLASS, PR_AUC, PRECISION, RECALL
from headrace_data.tasks.gate import Gate, not_worse
from headrace_data.tasks.measure import AVERAGED, COUNTED, Array, Mean, Measure, require_rows
from headrace_data.tasks.task import Always, Answers, Classes, Task

PLACE_PROBABILITIES: Final = "label_probabilities"
"""An output of a served graph: [rows, places] float32, each by itself from 0 to 1."""
LABELS: Final = "labels"
"""An output of a served graph: [rows, places] uint8, 1 where the probability is above 0.5."""
MEAN_PR_AUC: Final = Measure("mean_pr_auc", "share", "more", "mean PR-AUC", "average precision, over the labels")
MICRO_F1: Final = Measure("micro_f1", "share", "more", "micro F1", "all labels of all rows together")
MACRO_F1: Final = Measure("macro_f1", "share", "more", "macro F1", "mean over the labels")
MACRO_PRECISION: Final = Measure("macro_precision", "share", "more", "macro precision", "mean over the labels")
MACRO_RECALL: Final = Measure("macro_recall", "share", "more", "macro recall", "mean over the labels")
EXACT_MATCH: Final = Measure("exact_match", "share", "more", "exact match", "rows with every label right", COUNTED)
HAMMING: Final = Measure("hamming_loss", "share", "less", "hamming loss", "labels that are wrong", AVERAGED)
MEAN_LOG_LOSS: Final = Measure("mean_log_loss", "nats", "less", "mean log loss", "nats, over the labels", AVERAGED)
LEARNED_DROP: Final = 0.01
"""What variants that learn anew may lose of the mean PR-AUC where the spec says nothing of it."""
_SMALLEST: Final = 1e-7
"""Where the logarithm is cut off: about float32's resolution near one."""


class PlaceScores:
    """Measurements of rows each of which may be of several places."""

    def __init__(self, places: Classes) -> None:
        """`places` are the names of the answers' places."""
        self._places = places
        self._rows = 0
        self._true, self._answered, self._right = np.zeros((3, len(places)), dtype=np.int64)
        self._exact, self._wrong, self._log_loss = Mean(), Mean(), Mean()
        self._ranking = Areas()

    def add(self, answers: Answers, truth: Array) -> None:
        """Add rows: labels are 1 or 0, [rows, places]; at least one."""
        probabilities, given, there = answers[PLACE_PROBABILITIES], answers[LABELS] == 1, truth == 1
        require_rows(given, there)
        rows = len(truth)
        self._rows += rows
        for counts, which in ((self._true, there), (self._answered, given), (self._right, there & given)):
            counts += which.sum(axis=0)
        right = given == there
        self._exact.add(float(right.all(axis=1).mean()), rows)
        self._wrong.add(float(1 - right.mean()), rows)
        of_truth = np.where(there, probabilities, 1 - probabilities).astype(np.float64)
        self._log_loss.add(float(-np.log(np.clip(of_truth, _SMALLEST, 1.0)).mean()), rows)
        self._ranking.add(probabilities, there)

    def quality(self) -> dict[str, float]:
        """Return the measures.

        Means are over the places that have rows or answers, that of PR-AUC over those that have rows with and without;
        where there is no such place the measure is left out. Micro F1 is that of all places as if they were one.
        """
        of = self._of_places()
        known = np.flatnonzero((self._true > 0) | (self._answered > 0)).tolist()
        means = {MACRO_PRECISION: PRECISION, MACRO_RECALL: RECALL, MACRO_F1: F1} if known else {}
        areas = self._areas().values()
        return {
            **({MEAN_PR_AUC.name: fmean(areas)} if areas else {}),
            MICRO_F1.name: float(2 * self._right.sum() / max(int((self._true + self._answered).sum()), 1)),
            **{mean.name: float(of[measure.name][known].mean()) for mean, measure in means.items()},
            EXACT_MATCH.name: self._exact.value,
            HAMMING.name: self._wrong.value,
            MEAN_LOG_LOSS.name: self._log_loss.value,
        }

    def metrics(self) -> dict[str, float]:
        """Return the measures, and f1, precision, recall and pr_auc of each place that has rows.

        Of more than `MOST_OF_CLASS` places none of these.
        """
        if len(self._places) > MOST_OF_CLASS:
            return self.quality()
        there = np.flatnonzero(self._true).tolist()
        parts = {
            f"{name}/{self._places[place]}": float(values[place])
            for name, values in self._of_places().items()
            for place in there
        }
        areas = {f"{PR_AUC.name}/{self._places[place]}": area for place, area in self._areas().items()}
        return self.quality() | parts | areas

    def _of_places(self) -> Mapping[str, Array]:
        """Return F1, precision and recall of each place, [places]; 0 where there is nothing to divide by."""
        right, both = self._right, self._answered + self._true
        return {
            F1.name: 2 * right / np.maximum(both, 1),
            PRECISION.name: right / np.maximum(self._answered, 1),
            RECALL.name: right / np.maximum(self._true, 1),
        }

    def _areas(self) -> dict[int, float]:
        """Return the PR-AUC of each place that has rows with and without."""
        found = enumerate(self._ranking.areas_of_columns())
        return {place: areas[1] for place, areas in found if areas is not None}


class PlaceCounts:
    """Rows that are of each place of the label."""

    def __init__(self, places: Classes) -> None:
        self.rows = 0
        self.counts = np.zeros(len(places), dtype=np.int64)
        """[places]"""
        self._places = places

    def add(self, labels: Array) -> None:
        """Add the labels of some rows, [rows, places] of 1 and 0."""
        self.rows += len(labels)
        self.counts += (labels == 1).sum(axis=0)

    def baseline(self) -> Always:
        """Return what measures always the commoner answer at each place, with the training split's shares."""
        shares = (self.counts / max(self.rows, 1)).astype(np.float32)
        answer: dict[str, Array] = {PLACE_PROBABILITIES: shares, LABELS: (shares > 0.5).astype(np.uint8)}

        def answers(rows: int) -> Answers:
            return {name: np.broadcast_to(values, (rows, len(values))) for name, values in answer.items()}

        return Always(PlaceScores(self._places), answers, {})


class Multilabel(Task):
    """Of each place of the label whether it is there, such as the tags of a text.

    Versions are known by the mean PR-AUC: labels are rare as a rule, so that answering none of them is right nearly
    everywhere, and F1 at 0.5 is zero of every model that is not sure yet.
    """

    kind = "multilabel"
    answer = "which places of the label are there, each by itself"
    unfit = frozenset({"string", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64"})
    unfit_networks = frozenset({"imported", "trees"})
    dimensions = frozenset({1})
    heeds = frozenset({"classWeights"})
    outputs = (PLACE_PROBABILITIES, LABELS)
    headline = MEAN_PR_AUC
    loss = MEAN_LOG_LOSS
    measured = (
        MEAN_PR_AUC,
        MICRO_F1,
        MACRO_F1,
        EXACT_MATCH,
        HAMMING,
        MEAN_LOG_LOSS,
        MACRO_PRECISION,
        MACRO_RECALL,
    )
    won_by_constants = frozenset({MACRO_RECALL.name})
    beside = AGREEMENT
    always = "always the commoner answer to each label"
    has_logits = True
    gates = (
        Gate("agreement", AGREEMENT, lambda own, _: own.get(AGREEMENT, nan), 1.0, at_least=True),
        Gate("relativeLogitError", LOGIT_ERROR, lambda own, _: own.get(LOGIT_ERROR, nan), 0.0, of_weights=True),
    )
    learned = ((not_worse(MEAN_PR_AUC), LEARNED_DROP),)

    def labels(self, train: Any, places: Classes = ()) -> PlaceCounts:
        """Return what counts the rows of each place."""
        return PlaceCounts(places)

    def places(self, train: Any, values: Classes) -> Classes:
        """Return the names of the label's places."""
        return values

    def alike(self, expected: Answers, given: Answers) -> dict[str, float]:
        """Return the share of equal labels, of all places."""
        return {AGREEMENT: float(np.mean(expected[LABELS] == given[LABELS]))}

    def scores(
        self, classes: Classes, positive: int | str | None = None, compared: Classes = (), steps: Classes = ()
    ) -> PlaceScores:
        """Return what measures answers; `classes` are the names of the places."""
        return PlaceScores(classes)
