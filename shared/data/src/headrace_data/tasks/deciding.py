"""From which probability on a class is the answer: chosen on rows that nothing was learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from headrace_data.tasks.areas import curve
from headrace_data.tasks.classification import ACCURACY, F1
from headrace_data.tasks.measure import Array

Worth = Callable[[Array, Array, int, int], Array]
"""What each threshold is worth, by the rows that it answers the class to which are of it and are not, and by how many
rows are of the class and are not; more is better."""

MAXIMISED: Final[dict[str, Worth]] = {
    F1.name: lambda found, false, inside, outside: 2 * found / np.maximum(found + false + inside, 1),
    ACCURACY.name: lambda found, false, inside, outside: (found + outside - false) / (inside + outside),
    "balanced_accuracy": lambda found, false, inside, outside: (found / inside + 1 - false / outside) / 2,
}
"""What a threshold may be chosen by."""
_ONE: Final = int(np.float32(1).view(np.int32))
_NEVER: Final = -1
"""Beside the bits of float32 thresholds from 0 to `_ONE`: none."""


def least_cost(missed: float, false_alarm: float) -> Worth:
    """Return what thresholds are worth where a missed row costs so much, and a false alarm so much."""
    return lambda found, false, inside, outside: -(missed * (inside - found) + false_alarm * false)


def best_threshold(probabilities: Array, positive: int, of_class: Array, worth: Worth) -> float:
    """Return the probability above which a class is answered best, between two that were seen; of equals the highest.

    `probabilities` are those of two classes, [rows, 2] float32, `positive` is the place of the one that is looked for,
    and `of_class` tells whether rows are of it, [rows] bool: some must be, and some must not. Each threshold is judged
    by what a graph with its `decision_weights` answers, to the last bit. It is a number that float32 holds.
    """
    cuts, found, false = curve(_last_answered(probabilities, positive), of_class)
    # Before the first cut the class is never answered, after the last it always is.
    edges = np.concatenate([[_ONE], cuts, [_NEVER]])
    found, false = np.append(0, found), np.append(0, false)
    there = edges[:-1] > edges[1:]  # a class that is certain may be the answer up to a threshold of one
    value = np.where(there, worth(found, false, int(found[-1]), int(false[-1])), -np.inf)
    best = int(np.argmax(value))
    high, low = edges[best], edges[best + 1]
    middle = _threshold(edges[best : best + 2]).astype(np.float64).mean(keepdims=True).astype(np.float32)
    return float(_threshold(np.clip(middle.view(np.int32), low + 1, high))[0])


def decision_weights(threshold: float, positive: int) -> Array:
    """Return what the probabilities of two classes are multiplied by, so that the larger one decides, [2] float32.

    p > t is p (1 - t) > (1 - p) t.
    """
    return _weights(np.array([threshold], dtype=np.float32), positive).reshape(2)


def _weights(thresholds: Array, positive: int) -> Array:
    """Return the decision weights of thresholds, [thresholds, 2] float32."""
    weights = np.stack([thresholds, thresholds], axis=1)
    weights[:, positive] = np.float32(1) - thresholds
    return weights


def _last_answered(probabilities: Array, positive: int) -> Array:
    """Return the highest threshold at which each row is answered the class, [rows] as bits; `_NEVER` where at none.

    A higher threshold never adds a row: products of rounded factors that fall, or rise, do so too. So halves of the
    range are left out, until one number remains.
    """
    rows = len(probabilities)
    low, high = np.full(rows, _NEVER, np.int64), np.full(rows, _ONE + 1, np.int64)
    while (high - low > 1).any():
        middle = (low + high) // 2
        weighed = probabilities * _weights(_threshold(middle), positive)
        answered = (weighed.argmax(axis=1) == positive) & (middle > _NEVER)
        low, high = np.where(answered, middle, low), np.where(answered, high, middle)
    return low


def _threshold(bits: Array) -> Array:
    """Return the float32 with these bits, which are in the order of the numbers from zero on; 0 of `_NEVER`."""
    return np.maximum(bits, 0).astype(np.int32).view(np.float32)
