"""Fitting: from the sketch of the training split to its transforms.

Statistics are those of the values that are there; what is missing has no part in them. Mean, deviation, extremes and
the counts of categories are exact, but for rounding; median, quartiles and the most frequent number are exact as long
as all values were kept, and taken from a sample beyond: see sampling.py.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from headrace_data.errors import DatasetUnusable
from headrace_data.sampling import most_frequent
from headrace_data.sketches import MAX_CATEGORIES, NumberSketch, Side, Values
from headrace_data.spec import Constant, Field, Pipeline, Scale, Transform
from headrace_data.transforms import Fitted, FittedCategory, FittedTransform, FittedTransforms, Floats

_EMPTY: Final = np.empty(0)


def fit(training: Side, pipeline: Pipeline) -> FittedTransforms:
    """Return the transforms fitted on the training split.

    Raises DatasetUnusable when there is no row, when a feature's values are too large to be scaled or all missing, or
    when a category has too many distinct values.
    """
    if training.rows == 0:
        raise DatasetUnusable("expected rows in split train, got none")
    return FittedTransforms(tuple(_fitted(field, training, pipeline) for field in pipeline.stream.features))


def _fitted(field: Field, training: Side, pipeline: Pipeline) -> Fitted:
    transform = pipeline.transform(field.name)
    if field.type == "string":
        return _category(training.texts[field.name], transform)
    return _number(training.numbers[field.name], transform)


def _number(sketch: NumberSketch, transform: Transform) -> FittedTransform:
    field, moments = sketch.field, sketch.moments()
    kind: Scale = transform.scale or "none"
    if not moments.count and (kind != "none" or not isinstance(transform.impute, Constant)):
        raise DatasetUnusable(_all_missing(field.name, "{constant: 0}"))
    with np.errstate(over="ignore", invalid="ignore"):
        sample = sketch.sample.values() if sketch.sample is not None and moments.count else _EMPTY
        offset, scale = _offset_and_scale(kind, sketch, sample)
        fill = _fill(transform, sketch, sample)
    if not all(np.isfinite(part).all() for part in (offset, scale, fill) if part is not None):
        raise DatasetUnusable(f"expected values of {field.name!r} that can be scaled, got too large ones")
    # A span that a float32 graph would take for zero counts as none.
    scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale)
    fill = None if fill is None else fill.reshape(field.shape)
    return FittedTransform(field.name, kind, offset.reshape(field.shape), scale.reshape(field.shape), fill)


def _offset_and_scale(kind: Scale, sketch: NumberSketch, sample: Floats) -> tuple[Floats, Floats]:
    if kind == "none":
        return np.zeros(sketch.field.size), np.ones(sketch.field.size)
    moments = sketch.moments()
    if kind == "minmax":
        return moments.low, moments.high - moments.low
    if kind == "standard":
        return moments.mean, moments.deviation
    # Linear interpolation between the neighbours: definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical
    # Packages" (1996).
    lower, median, upper = np.quantile(sample, [0.25, 0.5, 0.75], axis=0)
    return median, upper - lower


def _fill(transform: Transform, sketch: NumberSketch, sample: Floats) -> Floats | None:
    impute = transform.impute
    if impute is None:
        return None
    if isinstance(impute, Constant):
        return np.full(sketch.field.size, float(impute.constant))
    if impute == "mean":
        return sketch.moments().mean
    return most_frequent(sample) if impute == "mostFrequent" else _median(sample)


def _category(values: Values, transform: Transform) -> FittedCategory:
    if values.beyond:
        raise DatasetUnusable(
            f"expected at most {MAX_CATEGORIES} categories of {values.name!r} in split train, got more: "
            f"a text with so many values identifies rows and does not describe them. The next one came "
            f"{values.beyond}. Have the producer send fewer, or leave the field out under another metadata.name"
        )
    fill = _text_fill(values, transform)
    # What stands for the missing is a category when the split has any: else nothing was learned about it.
    found = {*values.counts, *([fill] if fill is not None and values.missing else [])}
    if not found:
        raise DatasetUnusable(_all_missing(values.name, "{constant: unknown}"))
    return FittedCategory(values.name, transform.encode or "onehot", tuple(sorted(found)), fill)


def _text_fill(values: Values, transform: Transform) -> str | None:
    impute = transform.impute
    if isinstance(impute, Constant):
        return str(impute.constant)
    if impute is None or not values.counts:
        return None
    # The first in sorted order of several.
    return str(min(values.counts, key=lambda category: (-values.counts[category], category)))


def _all_missing(name: str, constant: str) -> str:
    return (
        f"expected values of {name!r} in split train, got missing ones only: rows with a value mend this, or "
        f"prepare.transform.{name}.impute: {constant}, or a schema without the field under another metadata.name"
    )


def _median(sample: Floats) -> Floats:
    median: npt.NDArray[np.float64] = np.median(sample, axis=0)
    return median
