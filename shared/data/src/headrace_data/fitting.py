"""Fitting: from the sketch of the training split to its transforms.

Statistics are those of the values that are there; what is missing has no part in them. Mean, deviation, extremes and
the counts of categories are exact, but for rounding; median, quartiles and the most frequent number are exact as long
as all values were kept, and taken from a sample beyond: see sampling.py.
"""

from __future__ import annotations

from headrace_data.errors import DatasetUnusable
from headrace_data.sketches import Side
from headrace_data.spec import Pipeline
from headrace_data.transforms import TRANSFORMS, FittedTransforms


def fit(training: Side, pipeline: Pipeline) -> FittedTransforms:
    """Return the transforms fitted on the training split.

    Raises DatasetUnusable when there is no row, when a feature's values are too large to be scaled or all missing, or
    when a category has too many distinct values.
    """
    if training.rows == 0:
        raise DatasetUnusable("expected rows in split train, got none")
    choices = [(field, pipeline.transform(field.name)) for field in pipeline.stream.features]
    return FittedTransforms(
        tuple(TRANSFORMS[choice.kind_of(field.type)].fit(training, field, choice) for field, choice in choices)
    )
