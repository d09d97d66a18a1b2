"""ordinal: the category's place in sorted order as one number, one more than the last for another."""

from __future__ import annotations

from headrace_data.sketches import Side
from headrace_data.spec import Field, Transform
from headrace_data.transforms.category import FittedCategory, fit_category

read = FittedCategory.from_plain


def fit(training: Side, field: Field, transform: Transform) -> FittedCategory:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    return fit_category("ordinal", training.texts[field.name], transform)
