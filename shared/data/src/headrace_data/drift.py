"""Drift: how far the values of rows are from those of rows before, field by field, whatever the number of rows.

The population stability index of two sets of rows is the sum over bins of (q - p) ln(q / p), where p and q are the
shares of the rows before and after. Rows of one distribution have one above zero, too, the higher the fewer there are:
divided by 1/n + 1/m it is distributed like chi-square with one degree of freedom fewer than there are bins (Yurdakul,
"Statistical Properties of Population Stability Index", Western Michigan University, 2018). So what chance alone gives
is taken off the effect, and what chance alone hardly ever exceeds stands beside it: a verdict needs both, an effect
that matters and rows enough to tell it from chance. Neither grows with the number of rows where nothing changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace_data.sketches import Sketch, Values

Floats = npt.NDArray[np.float64]

FALSE_ALARMS: Final = 1 / 400
"""How often rows of one distribution may be told apart, over all fields together; half of what is promised."""
BINS: Final = 10
"""Bins of a number: as many quantiles of the rows before."""
LEAST_EXPECTED: Final = 10.0
"""Rows that a bin is expected to have of the smaller side; smaller bins are put together."""
LEAST_ROWS: Final = 30
"""Rows with a value, before and after: of fewer nothing is told."""
_SMOOTHING: Final = 0.5
"""Added to each bin's count, as of Jeffreys' prior: so that an empty bin has a finite share."""
_RANGES: Final = ((0.25, 0.75), (0.05, 0.95), (0.01, 0.99))
"""Central parts of the values whose widths are a field's scale: the first of them that is not empty on both sides."""


class Index(NamedTuple):
    """A population stability index, and what chance alone gives for its bins and rows."""

    value: float
    """As it was measured; 0 where both are alike."""
    chance: float
    """What it is on average where nothing changed."""
    bound: float
    """What it stays under where nothing changed, but for the part of false alarms that was asked for."""

    @property
    def excess(self) -> float:
        """What is left of it without chance: an estimate of that of so many rows that chance has no part in it."""
        return max(0.0, self.value - self.chance)


class Change(NamedTuple):
    """A figure of a field before and after."""

    before: float
    after: float

    @property
    def factor(self) -> float:
        """By how much it changed, at least 1, up or down; infinite where one alone is zero."""
        low, high = sorted((abs(self.before), abs(self.after)))
        if low == high:
            return 1.0
        return high / low if low and math.isfinite(high / low) else math.inf


@dataclass(frozen=True)
class FieldDrift:
    """How the values of one field changed."""

    field: str
    """Its name."""
    rows: tuple[int, int]
    """Rows with a value that were compared, before and after: of numbers a sample."""
    missing: Change
    """Share of the rows without a value, 0 to 1."""
    index: Index | None = None
    """How far the values are apart; None where they are too few, or too many texts to count."""
    median: Change | None = None
    """The middle value, of a field with a shape that of all its elements; None of what is no number."""
    scale: Change | None = None
    """How wide the values lie, in their unit: the width of their central half, or where it is empty of the central 90
    or 98 parts in a hundred. None of what is no number, or too few."""

    def has_drifted(self, effect: float) -> bool:
        """Tell whether the field changed by at least this effect, an index, and not by chance."""
        return self.index is not None and self.index.value > self.index.bound and self.index.excess >= effect


class _Texts(NamedTuple):
    """What is known of a column of texts, or of classes."""

    counts: Mapping[Any, int] | None
    """How often each occurs; None where they are too many to count."""
    rows: int
    """Rows with one."""
    missing: float
    """Share of the rows without one."""


def drift(before: Sketch, after: Sketch) -> tuple[FieldDrift, ...]:
    """Return how each field changed between two sets of rows of the same pipeline: numbers, categories and classes.

    Of numbers nothing is told but what is missing, where one of the sketches keeps no spread (one of before there were
    any). Neither sketch is changed.
    """
    numbers = [name for name in _numbers(after) if name in _numbers(before)]
    texts = {name: (_texts(before, name), _texts(after, name)) for name in after.sides["train"].texts}
    classes = _classes(before), _classes(after)
    if classes[0] is not None and classes[1] is not None:
        texts[after.labels.name] = classes[0], classes[1]
    false_alarms = FALSE_ALARMS / max(1, len(numbers) + len(texts))
    found = [_number(name, before, after, false_alarms) for name in numbers]
    return (*found, *(_text(name, *pair, false_alarms) for name, pair in texts.items()))


def worst(drifts: Sequence[FieldDrift]) -> FieldDrift | None:
    """Return the field that changed most, beyond chance where one did; None where none was compared."""
    told = [each for each in drifts if each.index is not None]
    return max(told, key=lambda each: (each.has_drifted(0.0), each.index.excess if each.index else 0.0), default=None)


def index_of_counts(
    before: Mapping[Any, int], after: Mapping[Any, int], false_alarms: float = FALSE_ALARMS
) -> Index | None:
    """Return the index of rows that are counted by value. None where either has fewer than `LEAST_ROWS`."""
    keys = sorted({*before, *after}, key=lambda key: (str(type(key)), key))
    return _index(
        np.array([before.get(key, 0) for key in keys], np.float64),
        np.array([after.get(key, 0) for key in keys], np.float64),
        false_alarms,
    )


def index_of_values(before: Floats, after: Floats, false_alarms: float = FALSE_ALARMS) -> Index | None:
    """Return the index of numbers, shapes [rows, elements]: the mean of those of its elements.

    Its bound is that of one element, which holds however much they depend on each other. None where either has fewer
    than `LEAST_ROWS`.
    """
    columns = [_index(*_binned(*pair), false_alarms) for pair in zip(before.T, after.T, strict=True)]
    found = [each for each in columns if each is not None]
    if not found:
        return None
    means = np.mean([(each.value, each.chance) for each in found], axis=0)
    return Index(float(means[0]), float(means[1]), max(each.bound for each in found))


def _binned(before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """Count numbers by bin: between quantiles of those before. Equal values are in one bin, so bins may be fewer."""
    if not len(before) or not len(after):
        return np.zeros(1), np.zeros(1)
    bins = max(2, min(BINS, int(min(len(before), len(after)) // (2 * LEAST_EXPECTED))))
    edges = np.unique(np.quantile(before, np.arange(1, bins) / bins, method="inverted_cdf"))
    counts = [np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) for values in (before, after)]
    return counts[0].astype(np.float64), counts[1].astype(np.float64)


def _index(before: Floats, after: Floats, false_alarms: float) -> Index | None:
    rows = before.sum(), after.sum()
    if min(rows) < LEAST_ROWS:
        return None
    before, after = _pooled(before, after)
    if (bins := len(before)) == 1:
        return Index(0.0, 0.0, 0.0)
    shares = [(each + _SMOOTHING) / (each.sum() + _SMOOTHING * bins) for each in (before, after)]
    value = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    unit = float(1 / rows[0] + 1 / rows[1])
    return Index(value, (bins - 1) * unit, chi_square_bound(bins - 1, false_alarms) * unit)


def _pooled(before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """Put bins together of which too few rows are expected for chi-square to tell of them."""
    rows = float(before.sum()), float(after.sum())
    expected = (before + after) * (min(rows) / sum(rows))
    small = expected < LEAST_EXPECTED
    if not small.any():
        return before, after
    kept = [each[~small] for each in (before, after)]
    rest = [each[small].sum() for each in (before, after)]
    if expected[small].sum() >= LEAST_EXPECTED or not len(kept[0]):
        return np.append(kept[0], rest[0]), np.append(kept[1], rest[1])
    least = int(np.argmin(kept[0] + kept[1]))
    for each, more in zip(kept, rest, strict=True):
        each[least] += more
    return kept[0], kept[1]


def chi_square_bound(freedom: int, beyond: float) -> float:
    """Return what chi-square exceeds with this probability, by the cube root that is nearly normal.

    Wilson and Hilferty, "The Distribution of Chi-Square", PNAS 17 (1931): a few parts in a hundred too high at most,
    far out with one degree of freedom.
    """
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(1 - beyond) * math.sqrt(part)) ** 3)


def _numbers(sketch: Sketch) -> Sequence[str]:
    return [] if sketch.spread is None else sketch.spread.names


def _number(name: str, before: Sketch, after: Sketch, false_alarms: float) -> FieldDrift:
    spreads = before.spread, after.spread
    values = [spread.of(name) if spread is not None else np.empty((0, 1)) for spread in spreads]
    rows = len(values[0]), len(values[1])
    missing = Change(_missing(name, before), _missing(name, after))
    if min(rows) < LEAST_ROWS:
        return FieldDrift(name, rows, missing)
    middles = Change(*(float(np.median(each)) for each in values))
    index = index_of_values(values[0], values[1], false_alarms)
    return FieldDrift(name, rows, missing, index, middles, _scales(values[0], values[1]))


def _scales(before: Floats, after: Floats) -> Change:
    """Return how wide values lie, measured in the same way on both sides; zero where that cannot be."""
    widths = [Change(*(_width(each, *part) for each in (before, after))) for part in _RANGES]
    if (told := next((each for each in widths if each.before and each.after), None)) is not None:
        return told
    # What varied in its central half and is all one value now, or the other way round, has a scale of zero there.
    is_constant = np.ptp(before) == 0 or np.ptp(after) == 0
    return widths[0] if is_constant else Change(0.0, 0.0)


def _width(values: Floats, low: float, high: float) -> float:
    ends = np.quantile(values, (low, high))
    return float(ends[1] - ends[0])


def _missing(name: str, sketch: Sketch) -> float:
    counted = [side for side in sketch.sides.values() if name in side.numbers]
    rows = sum(side.rows for side in counted)
    return 1 - sum(side.numbers[name].moments().count for side in counted) / rows if rows else 0.0


def _texts(sketch: Sketch, name: str) -> _Texts:
    return _joined([side.texts[name] for side in sketch.sides.values()], sketch)


def _classes(sketch: Sketch) -> _Texts | None:
    labels = [side.labels for side in sketch.sides.values()]
    return _joined([each for each in labels if each is not None], sketch) if None not in labels else None


def _joined(parts: Sequence[Values], sketch: Sketch) -> _Texts:
    whole = Values(parts[0].name, max(each.most for each in parts))
    for each in parts:
        whole.merge(each)
    # What is missing among too many texts was not counted before the spread of numbers was kept.
    is_counted = not whole.beyond or sketch.spread is not None
    missing = whole.missing / sketch.rows if sketch.rows and is_counted else 0.0
    return _Texts(None if whole.beyond else whole.counts, sketch.rows - whole.missing, missing)


def _text(name: str, before: _Texts, after: _Texts, false_alarms: float) -> FieldDrift:
    rows, missing = (before.rows, after.rows), Change(before.missing, after.missing)
    if before.counts is None or after.counts is None:
        return FieldDrift(name, rows, missing)
    return FieldDrift(name, rows, missing, index_of_counts(before.counts, after.counts, false_alarms))
