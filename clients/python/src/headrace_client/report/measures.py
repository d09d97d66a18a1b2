"""What a report counts: histograms, a confusion matrix, reliability, and errors of a regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from headrace_data.tasks import Measure

from headrace_client.report.svg import readable

Array = npt.NDArray[Any]

BINS: Final = 24
_HALVES: Final = 2**52
"""From here on a float64 has no halves, where a bin of a whole number could begin."""
RELIABILITY_BINS: Final = 15
"""As many as the platform's own calibration error has."""


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins."""

    edges: tuple[float, ...]
    """One more than there are counts, ascending."""
    counts: tuple[int, ...]


def histogram(values: Array, edges: Sequence[float] | None = None, bins: int = BINS) -> Histogram:
    """Return the counts of finite values; a few distinct whole numbers have a bin each. Empty without values."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    flat = flat[np.isfinite(flat)]
    if edges is None:
        edges = _edges(flat, bins) if len(flat) else (0.0, 1.0)
    counts, _ = np.histogram(flat, bins=np.asarray(edges))
    return Histogram(tuple(float(edge) for edge in edges), tuple(int(count) for count in counts))


def _edges(flat: Array, bins: int) -> Sequence[float]:
    low, high = float(flat.min()), float(flat.max())
    if high - low < bins and max(-low, high) < _HALVES and bool((flat == np.round(flat)).all()):
        return [edge - 0.5 for edge in range(int(low), int(high) + 2)]
    if low == high:
        margin = max(0.5, abs(low) * 1e-9)
        return [low - margin, high + margin]
    edges: Sequence[float] = np.linspace(low, high, bins + 1).tolist()
    return edges


def missing(values: Array) -> int:
    """Return how many rows lack a value: NaN in a number, an empty text."""
    if values.dtype == object:
        return sum(1 for value in values.tolist() if value is None or value == "")
    if values.dtype.kind != "f":
        return 0
    return int(np.isnan(values.reshape(len(values), -1)).any(axis=1).sum())


def confusion(pairs: Mapping[tuple[Any, Any], int], classes: Sequence[Any]) -> list[list[int]]:
    """Return how often each class (row) was answered as each class (column), given the counts of (true, answered)."""
    return [[pairs.get((true, given), 0) for given in classes] for true in classes]


@dataclass(frozen=True)
class Bin:
    """Answers of about the same confidence."""

    low: float
    high: float
    rows: int
    confidence: float
    """Mean of the highest probability, 0 without rows."""
    accuracy: float
    """Share of right answers, 0 without rows."""


def reliability(confidence: Array, right: Array) -> list[Bin]:
    """Return the bins of a reliability diagram: equal widths, open at the left and closed at the right.

    As in Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    bins = RELIABILITY_BINS
    sure, hits = confidence.astype(np.float64), right.astype(np.float64)
    places = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    rows = np.bincount(places, minlength=bins)
    some = np.maximum(rows, 1)
    means = np.bincount(places, weights=sure, minlength=bins) / some
    shares = np.bincount(places, weights=hits, minlength=bins) / some
    return [Bin(at / bins, (at + 1) / bins, int(rows[at]), float(means[at]), float(shares[at])) for at in range(bins)]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return how far confidence is from accuracy, weighted by rows; equation 3 of the same paper."""
    total = sum(each.rows for each in bins)
    return sum(abs(each.accuracy - each.confidence) * each.rows for each in bins) / total if total else 0.0


def thinned(count: int, most: int) -> Array:
    """Return evenly spaced places among `count`, at most `most` of them: the same ones each time."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)) if count else np.empty(0, np.int64)


def figure(measure: Measure, value: float) -> str:
    """Return what was measured, as a page shows it."""
    if measure.unit == "share":
        return f"{value:.1%}"
    return readable(value) if measure.unit == "label" else f"{value:.3f}"
