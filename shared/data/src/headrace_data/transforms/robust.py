"""robust: median 0 and distance of the quartiles 1, so that a few far values do not count."""

from __future__ import annotations

import numpy as np

from headrace_data.sketches import Floats, NumberSketch, Side
from headrace_data.spec import Field, Transform
from headrace_data.transforms.scaled import FittedTransform, fit_scaled

read = FittedTransform.from_plain


def fit(training: Side, field: Field, transform: Transform) -> FittedTransform:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    return fit_scaled("robust", training.numbers[field.name], transform, _offset_and_scale)


def _offset_and_scale(_sketch: NumberSketch, sample: Floats) -> tuple[Floats, Floats]:
    # Linear interpolation between the neighbours: definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical
    # Packages" (1996).
    lower, median, upper = np.quantile(sample, [0.25, 0.5, 0.75], axis=0)
    return median, upper - lower
