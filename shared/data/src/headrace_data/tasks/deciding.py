"""From which probability on a class is the answer: chosen on rows that nothing was learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from headrace_data.tasks.classification import ACCURACY, F1
from headrace_data.tasks.measure import Array
from headrace_data.tasks.ranking import curve

Worth = Callable[[Array, Array, int, int], Array]
"""What each threshold is worth, by the rows that it answers the class to which are of it and are not, and by how many
rows are of the class and are not; more is better."""

MAXIMISED: Final[dict[str, Worth]] = {
    F1.name: lambda found, false, inside, outside: 2 * found / np.maximum(found + false + inside, 1),
    ACCURACY.name: lambda found, false, inside, outside: (found + outside - false) / (inside + outside),
    "balanced_accuracy": lambda found, false, inside, outside: (found / inside + 1 - false / outside) / 2,
}
"""What a threshold may be chosen by."""


def least_cost(missed: float, false_alarm: float) -> Worth:
    """Return what thresholds are worth where a missed row costs so much, and a false alarm so much."""
    return lambda found, false, inside, outside: -(missed * (inside - found) + false_alarm * false)


def best_threshold(scores: Array, of_class: Array, worth: Worth) -> float:
    """Return the probability above which a class is answered best, between two that were seen; of equals the highest.

    `scores` are probabilities of the class, [rows], and `of_class` whether rows are of it, [rows] bool: some must be,
    and some must not.
    """
    cuts, found, false = curve(scores.astype(np.float64), of_class)
    # Before the first cut the class is never answered, after the last it always is.
    edges = np.concatenate([[1.0], cuts, [0.0]])
    found, false = np.append(0, found), np.append(0, false)
    inside, outside = int(found[-1]), int(false[-1])
    best = int(np.argmax(worth(found, false, inside, outside)))
    return float((edges[best] + edges[best + 1]) / 2)


def decision_weights(threshold: float, positive: int) -> Array:
    """Return what the probabilities of two classes are multiplied by, so that the larger one decides, [2] float32.

    p > t is p (1 - t) > (1 - p) t.
    """
    weights = np.full(2, threshold, dtype=np.float32)
    weights[positive] = np.float32(1) - np.float32(threshold)
    return weights
