"""How well scores put the rows of one class before all others, whatever the threshold: ROC-AUC and PR-AUC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from headrace_data.tasks.measure import Array

MOST_NUMBERS: Final = 2**24
"""Scores that are kept of all columns together, 64 MiB: of up to so many the areas are exact."""


def areas(scores: Array, of_class: Array) -> tuple[float, float] | None:
    """Return ROC-AUC and PR-AUC of scores, [rows], for rows that are of the class or not, [rows] bool.

    ROC-AUC: the share of pairs, one row of the class and one of the others, whose scores are in the right order; equal
    scores count half. PR-AUC: the average precision, a sum over thresholds of the precision by the recall gained, which
    does not interpolate between them as a trapezoid would (Davis and Goadrich, "The Relationship Between
    Precision-Recall and ROC Curves", ICML 2006). None where either side has no row.
    """
    found, false = curve(scores, of_class)[1:]
    inside, outside = float(found[-1]), float(false[-1])
    if inside == 0 or outside == 0:
        return None
    recall, fallout = found / inside, false / outside
    gained, precision = np.diff(recall, prepend=0.0), found / (found + false)
    return float(np.trapezoid(np.append(0.0, recall), np.append(0.0, fallout))), float(np.sum(gained * precision))


def curve(scores: Array, of_class: Array) -> tuple[Array, Array, Array]:
    """Return each distinct score, highest first, and how many rows at or above it are of the class, and are not."""
    order = np.argsort(-scores, kind="stable")
    ordered, inside = scores[order], of_class[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    found = np.cumsum(inside, dtype=np.int64)[ends]
    return ordered[ends], found, ends + 1 - found


class Areas:
    """Scores of rows that come batch by batch, and the place of each row's class, or of which columns it is.

    Of more than `most` numbers every second row is kept, of twice as many every fourth, and so on: the same rows of the
    same dataset, so that versions measured there stay comparable.
    """

    def __init__(self, most: int = MOST_NUMBERS) -> None:
        self._most = most
        self._seen = 0
        self._step = 1
        self._scores: list[Array] = []
        self._places: list[Array] = []
        self._kept = 0

    def add(self, scores: Array, places: Array) -> None:
        """Add rows: scores, [rows, columns], and places of their classes, [rows], or [rows, columns] of 1 and 0."""
        kept = np.arange(-self._seen % self._step, len(places), self._step)
        self._seen += len(places)
        self._scores.append(scores[kept].astype(np.float32))
        self._places.append(places[kept].astype(np.int32))
        self._kept += len(kept)
        while self._kept * scores.shape[1] > self._most and self._kept > 1:
            self._step *= 2
            together, classes = self._together()
            self._scores, self._places = [together[::2].copy()], [classes[::2].copy()]
            self._kept = len(self._places[0])

    def areas(self, column: int, place: int) -> tuple[float, float] | None:
        """Return ROC-AUC and PR-AUC of a column of scores for the class at a place; None where they say nothing."""
        scores, places = self._together()
        return areas(scores[:, column], places == place)

    def areas_of_columns(self) -> Iterator[tuple[float, float] | None]:
        """Yield for each column what `areas` returns, of rows that may be of several."""
        scores, places = self._together()
        for column in range(scores.shape[1]):
            yield areas(scores[:, column], places[:, column] == 1)

    def _together(self) -> tuple[Array, Array]:
        if len(self._scores) > 1:
            self._scores, self._places = [np.concatenate(self._scores)], [np.concatenate(self._places)]
        return self._scores[0], self._places[0]
