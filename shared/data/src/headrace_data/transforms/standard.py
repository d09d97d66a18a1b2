"""standard: mean 0 and deviation 1, both of the training split's values."""

from __future__ import annotations

from headrace_data.sketches import Floats, NumberSketch, Side
from headrace_data.spec import Field, Transform
from headrace_data.transforms.scaled import FittedTransform, fit_scaled

read = FittedTransform.from_plain


def fit(training: Side, field: Field, transform: Transform) -> FittedTransform:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    return fit_scaled("standard", training.numbers[field.name], transform, _offset_and_scale)


def _offset_and_scale(sketch: NumberSketch, _sample: Floats) -> tuple[Floats, Floats]:
    moments = sketch.moments()
    return moments.mean, moments.deviation
