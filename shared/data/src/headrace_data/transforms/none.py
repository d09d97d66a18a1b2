"""none: a number as it comes, but for what is missing."""

from __future__ import annotations

import numpy as np

from headrace_data.sketches import Floats, NumberSketch, Side
from headrace_data.spec import Field, Transform
from headrace_data.transforms.scaled import FittedTransform, fit_scaled

read = FittedTransform.from_plain


def fit(training: Side, field: Field, transform: Transform) -> FittedTransform:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    return fit_scaled("none", training.numbers[field.name], transform, _offset_and_scale)


def _offset_and_scale(sketch: NumberSketch, _sample: Floats) -> tuple[Floats, Floats]:
    return np.zeros(sketch.field.size), np.ones(sketch.field.size)
