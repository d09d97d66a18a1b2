"""Fitting: from the training split to its transforms.

Statistics are those of the values that are there; what is missing has no part in them. They are taken in float64 over
rows in canonical order and in chunks of a fixed size, so they do not depend on how rows were batched or stored. Mean,
deviation, extremes and the counts of categories are exact; median, quartiles and the most frequent number are exact up
to 262,144 rows (fewer when a row has many elements) and taken from a fixed sample of so many beyond: see sampling.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import elements, place_of
from headrace_data.errors import DatasetUnusable
from headrace_data.sampling import RowSample, capacity_of, most_frequent
from headrace_data.spec import Constant, Field, Pipeline, Scale, Transform
from headrace_data.transforms import Fitted, FittedCategory, FittedTransform, FittedTransforms, Floats

MAX_CATEGORIES: Final = 1000
"""Most categories of one feature: each is a column of the model's input."""
_CHUNK: Final = 8192


def fit(batches: Iterable[pa.RecordBatch], pipeline: Pipeline) -> FittedTransforms:
    """Return the transforms fitted on these rows: the training split in canonical order.

    Raises DatasetUnusable when there is no row, when a feature's values are too large to be scaled or all missing, or
    when a category has too many distinct values.
    """
    fitters = _fitters(pipeline)
    rows = 0
    for batch in _fixed_chunks(batches):
        rows += len(batch)
        for fitter in fitters:
            fitter.add(batch)
    if rows == 0:
        raise DatasetUnusable("expected rows in split train, got none")
    return FittedTransforms(tuple(fitter.fitted() for fitter in fitters))


class _Fitter(Protocol):
    """Learns the transform of one feature, chunk by chunk."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the feature's values of some rows."""

    def fitted(self) -> Fitted:
        """Return the transform. Raises DatasetUnusable."""


def _fitters(pipeline: Pipeline) -> list[_Fitter]:
    fields = [(field, pipeline.transform(field.name)) for field in pipeline.stream.features]
    capacity = capacity_of(sum(field.size for field, transform in fields if _needs_order(transform)))
    return [
        _CategoryFitter(field, transform) if field.type == "string" else _NumberFitter(field, transform, capacity)
        for field, transform in fields
    ]


def _needs_order(transform: Transform) -> bool:
    return transform.scale == "robust" or transform.impute in ("median", "mostFrequent")


def _fixed_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of exactly `_CHUNK` rows, but for the last."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        while count >= _CHUNK:
            joined = pa.concat_batches(waiting)
            yield joined.slice(0, _CHUNK)
            waiting, count = [joined.slice(_CHUNK)], count - _CHUNK
    if count:
        yield pa.concat_batches(waiting)


class _Moments:
    """Count, mean, squared deviations and extremes of one feature's elements.

    Chunks are merged as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances" (1979).
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self._mean: Floats = np.zeros(size)
        self._squares: Floats = np.zeros(size)
        self.low: Floats = np.full(size, np.inf)
        self.high: Floats = np.full(size, -np.inf)

    def add(self, chunk: Floats) -> None:
        """Add rows, shape [rows, elements]; at least one."""
        count = len(chunk)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = chunk.mean(axis=0)
            squares = np.square(chunk - mean).sum(axis=0)
            total = self.count + count
            delta = mean - self._mean
            self._squares += squares + np.square(delta) * (self.count * count / total)
            self._mean += delta * (count / total)
        self.count = total
        self.low = np.minimum(self.low, chunk.min(axis=0))
        self.high = np.maximum(self.high, chunk.max(axis=0))

    @property
    def mean(self) -> Floats:
        # Rounding may move the mean of equal values a little: the extremes know better.
        return np.where(self.low == self.high, self.low, self._mean)

    @property
    def deviation(self) -> Floats:
        """The population's standard deviation."""
        return np.where(self.low == self.high, 0.0, np.sqrt(self._squares / self.count))


class _NumberFitter:
    """Fits a number feature."""

    def __init__(self, field: Field, transform: Transform, capacity: int) -> None:
        self._field = field
        self._transform = transform
        self._moments = _Moments(field.size)
        self._sample = RowSample(capacity) if _needs_order(transform) else None

    def add(self, batch: pa.RecordBatch) -> None:
        values = elements(batch, self._field)
        column = batch.column(self._field.name)
        if column.null_count:
            values = values[column.is_valid().to_numpy(zero_copy_only=False)]
        if len(values):
            self._moments.add(values.astype(np.float64))
            if self._sample is not None:
                self._sample.add(values)

    def fitted(self) -> FittedTransform:
        kind: Scale = self._transform.scale or "none"
        if not self._moments.count and (kind != "none" or not isinstance(self._transform.impute, Constant)):
            raise DatasetUnusable(_all_missing(self._field.name, "{constant: 0}"))
        with np.errstate(over="ignore", invalid="ignore"):
            sample = self._sample.values() if self._sample is not None else np.empty((0, self._field.size))
            offset, scale = self._offset_and_scale(kind, sample)
            fill = self._fill(sample)
        if not all(np.isfinite(part).all() for part in (offset, scale, fill) if part is not None):
            raise DatasetUnusable(f"expected values of {self._field.name!r} that can be scaled, got too large ones")
        # A span that a float32 graph would take for zero counts as none.
        scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale)
        shape = self._field.shape
        fill = None if fill is None else fill.reshape(shape)
        return FittedTransform(self._field.name, kind, offset.reshape(shape), scale.reshape(shape), fill)

    def _offset_and_scale(self, kind: Scale, sample: Floats) -> tuple[Floats, Floats]:
        moments = self._moments
        if kind == "none":
            return np.zeros(self._field.size), np.ones(self._field.size)
        if kind == "minmax":
            return moments.low, moments.high - moments.low
        if kind == "standard":
            return moments.mean, moments.deviation
        # Linear interpolation between the neighbours: definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical
        # Packages" (1996).
        lower, median, upper = np.quantile(sample, [0.25, 0.5, 0.75], axis=0)
        return median, upper - lower

    def _fill(self, sample: Floats) -> Floats | None:
        impute = self._transform.impute
        if impute is None:
            return None
        if isinstance(impute, Constant):
            return np.full(self._field.size, float(impute.constant))
        if impute == "mean":
            return self._moments.mean
        return most_frequent(sample) if impute == "mostFrequent" else _median(sample)


class _CategoryFitter:
    """Fits a category. Null and blank texts are missing."""

    def __init__(self, field: Field, transform: Transform) -> None:
        self._field = field
        self._transform = transform
        self._counts: Counter[str] = Counter()
        self._missing = 0

    def add(self, batch: pa.RecordBatch) -> None:
        for found in pc.value_counts(batch.column(self._field.name)).to_pylist():
            if found["values"] and not found["values"].isspace():
                self._counts[found["values"]] += found["counts"]
            else:
                self._missing += found["counts"]
        if len(self._counts) > MAX_CATEGORIES:
            # The counter keeps the order in which its keys came.
            newest = next(reversed(self._counts))
            raise DatasetUnusable(
                f"expected at most {MAX_CATEGORIES} categories of {self._field.name!r} in split train, got more: "
                f"a text with so many values identifies rows and does not describe them. The next one came "
                f"{place_of(batch, self._field.name, newest)}. Have the producer send fewer, or leave the field out "
                "under another metadata.name"
            )

    def fitted(self) -> FittedCategory:
        fill = self._fill()
        # What stands for the missing is a category when the split has any: else nothing was learned about it.
        found = {*self._counts, *([fill] if fill is not None and self._missing else [])}
        if not found:
            raise DatasetUnusable(_all_missing(self._field.name, "{constant: unknown}"))
        return FittedCategory(self._field.name, self._transform.encode or "onehot", tuple(sorted(found)), fill)

    def _fill(self) -> str | None:
        impute = self._transform.impute
        if isinstance(impute, Constant):
            return str(impute.constant)
        if impute is None or not self._counts:
            return None
        # The first in sorted order of several.
        return min(self._counts, key=lambda category: (-self._counts[category], category))


def _all_missing(name: str, constant: str) -> str:
    return (
        f"expected values of {name!r} in split train, got missing ones only: rows with a value mend this, or "
        f"prepare.transform.{name}.impute: {constant}, or a schema without the field under another metadata.name"
    )


def _median(sample: Floats) -> Floats:
    median: npt.NDArray[np.float64] = np.median(sample, axis=0)
    return median
