"""log: sign(x) log(1 + |x|), then mean 0 and deviation 1: for amounts that spread over several powers of ten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace_data.sketches import Floats, Moments, NumberSketch, Side
from headrace_data.spec import Field, Transform
from headrace_data.transforms.scaled import FittedTransform, fit_scaled, read_scaled


class FittedLog(FittedTransform):
    """A number whose logarithm is scaled."""

    def bent(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the logarithms of one more than the sizes of values, with their signs."""
        return _log(values)

    def computing_type(self, raw: np.dtype[Any]) -> np.dtype[Any]:
        """Return float64: the logarithm of one more than a small number has no digits in float32."""
        return np.dtype(np.float64)


def fit(training: Side, field: Field, transform: Transform) -> FittedTransform:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    found = fit_scaled("log", training.numbers[field.name], transform, _offset_and_scale)
    return FittedLog(found.name, found.kind, found.offset, found.scale, found.fill)


def read(value: Mapping[str, Any]) -> FittedTransform:
    """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
    return FittedLog(*read_scaled(value, ("log",)))


def _offset_and_scale(_sketch: NumberSketch, sample: Floats) -> tuple[Floats, Floats]:
    # In order, so that sums are rounded alike however the rows came.
    moments = Moments.of(np.sort(_log(sample), axis=0))
    return moments.mean, moments.deviation


def _log(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = np.sign(values) * np.log1p(np.abs(values))
    return found
