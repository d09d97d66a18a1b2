"""Rows of a dataset with a value far from most others of its field: training leaves them out.

How far is far is told by statistics that the outliers themselves hardly move, of the training split's values:

- `iqr`: beyond the quartiles by more than so many times their distance (J. W. Tukey, "Exploratory Data Analysis",
  Addison-Wesley 1977). Of normally distributed values 0.7 % lie beyond 1.5 of them, which drops every fourteenth row of
  ten such fields, and 0.0002 % beyond 3, from where on Tukey calls a value "far out".
- `robustZ`: further from the median than so many deviations, which are estimated by the median distance from it (B.
  Iglewicz, D. C. Hoaglin, "How to Detect and Handle Outliers", ASQC 1993, whose limit is 3.5).

Where that distance is 0, as half of the values or more are equal, nothing is far: any other value would be. They are
the statistics that transforms are fitted by: exact up to as many rows, and independent of how these were batched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import elements
from headrace_data.sketches import Side
from headrace_data.spec import Field, Pipeline

OUTLIERS: Final = "outliers"
"""Rule: a value of a training row lies far from most others of its field."""
_NORMAL: Final = 0.6745
"""The median distance from the middle of normally distributed values, in deviations."""

Bounds = tuple[float, float]
"""The least and the largest value that is not far."""
Mask = npt.NDArray[np.bool_]


def _beyond_quartiles(values: npt.NDArray[np.float64], times: float) -> Bounds | None:
    low, high = np.quantile(values, (0.25, 0.75))
    reach = (high - low) * times
    return (float(low - reach), float(high + reach)) if reach else None


def _beyond_deviations(values: npt.NDArray[np.float64], most: float) -> Bounds | None:
    middle = np.median(values)
    reach = np.median(np.abs(values - middle)) / _NORMAL * most
    return (float(middle - reach), float(middle + reach)) if reach else None


OUTLIER_RULES: Final[Mapping[str, Callable[[npt.NDArray[np.float64], float], Bounds | None]]] = {
    "iqr": _beyond_quartiles,
    "robustZ": _beyond_deviations,
}
"""Bounds of values, shape [rows], by rule and its limit; none where nothing is far."""


def bounds_of(training: Side, pipeline: Pipeline) -> dict[Field, Bounds]:
    """Return the bounds of each field that a pipeline looks at, from what is known of the training split."""
    rules, found = pipeline.prepare.clean.outliers, dict[Field, Bounds]()
    for field in pipeline.outlier_fields:
        sample = training.numbers[field.name].sample
        if rules is None or sample is None or not training.numbers[field.name].moments().count:
            continue
        with np.errstate(over="ignore"):
            bounds = OUTLIER_RULES[rules.rule](sample.values()[:, 0], rules.reach)
        if bounds is not None:
            found[field] = bounds
    return found


class Outlying(NamedTuple):
    """What is far of one field, and how often."""

    field: str
    """Its name."""
    low: float
    """The least value that is not far."""
    high: float
    """The largest one."""
    rows: int
    """Training rows with a value beyond: each is left out, once if it has several."""


class OutlierRows:
    """The rows of a dataset, as far as they have a value beyond its field's bounds: a bit for each row."""

    def __init__(self, bounds: Mapping[Field, Bounds]) -> None:
        self.names = tuple(field.name for field in bounds)
        """The fields that are looked at."""
        self._bounds = bounds
        self._far: list[Mask] = []
        self._counts = Counter[str]()

    def add(self, batch: pa.RecordBatch, held_out: Mask) -> None:
        """Take in rows in their order, and which of them are of validation or test."""
        far = np.zeros(len(batch), dtype=np.bool_)
        for field, (low, high) in self._bounds.items():
            values = elements(batch, field)[:, 0].astype(np.float64)
            beyond = (values < low) | (values > high)
            beyond &= pc.is_valid(batch.column(field.name)).to_numpy(zero_copy_only=False) & ~held_out
            self._counts[field.name] += int(beyond.sum())
            far |= beyond
        self._far.append(far)

    def found(self) -> tuple[Outlying, ...]:
        """Return the bounds of each field, in the order of the schema, and how many training rows lie beyond."""
        return tuple(Outlying(field.name, *bounds, self._counts[field.name]) for field, bounds in self._bounds.items())

    def left_out(self) -> dict[str, Mask]:
        """Return which of all rows training leaves out, by rule."""
        return {OUTLIERS: np.concatenate(self._far) if self._far else np.zeros(0, dtype=np.bool_)}
