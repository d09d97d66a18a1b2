"""What stands for missing values: found in the training split, and put in their place."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_data.errors import DatasetUnusable
from headrace_data.sampling import most_frequent
from headrace_data.sketches import Floats, NumberSketch, Values
from headrace_data.spec import Constant, Transform

EMPTY: Final = np.empty(0)
"""The values of a sample that is not kept."""


def filled(values: npt.NDArray[Any], fill: Floats | None) -> npt.NDArray[Any]:
    """Return numbers with `fill` in the place of NaN, in their own type; as they are where it is None."""
    return values if fill is None else np.where(np.isnan(values), fill.astype(values.dtype), values)


def fill_of(transform: Transform, sketch: NumberSketch, sample: Floats) -> Floats | None:
    """Return what stands for a missing number, [elements]; None when none may be missing.

    `sample` has the values, [rows, elements], where the order of values is needed.
    """
    impute = transform.impute
    if impute is None:
        return None
    if isinstance(impute, Constant):
        return np.full(sketch.field.size, float(impute.constant))
    if impute == "mean":
        return sketch.moments().mean
    if impute == "mostFrequent":
        return most_frequent(sample)
    return np.asarray(np.median(sample, axis=0))


def require_values(sketch: NumberSketch, transform: Transform, *, needed: bool) -> None:
    """Raise DatasetUnusable when all values are missing that are `needed`, or that a gap is filled from."""
    if not sketch.moments().count and (needed or not isinstance(transform.impute, Constant)):
        raise all_missing(sketch.field.name, "{constant: 0}")


def text_fill(values: Values, transform: Transform) -> str | None:
    """Return what stands for a missing text; None when none may be missing."""
    impute = transform.impute
    if isinstance(impute, Constant):
        return str(impute.constant)
    if impute is None or not values.counts:
        return None
    # The first in sorted order of several.
    return str(min(values.counts, key=lambda category: (-values.counts[category], category)))


def all_missing(name: str, constant: str) -> DatasetUnusable:
    """Return the error of a feature without a value, with an impute that would mend it."""
    return DatasetUnusable(
        f"expected values of {name!r} in split train, got missing ones only: rows with a value mend this, or "
        f"prepare.transform.{name}.impute: {constant}, or a schema without the field under another metadata.name"
    )
