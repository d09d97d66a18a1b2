"""winsorize: values beyond two quantiles count as these, then mean 0 and deviation 1: for a few wild values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace_data.errors import ManifestInvalid
from headrace_data.sketches import Floats, Moments, NumberSketch, Side
from headrace_data.spec import Field, Transform
from headrace_data.spec.transform import Winsorize
from headrace_data.transforms.scaled import FittedTransform, fit_scaled, read_floats, read_scaled


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedWinsorized(FittedTransform):
    """A number within bounds that is scaled."""

    low: Floats
    """What smaller values count as. Shape of the feature."""
    high: Floats
    """What larger values count as. Shape of the feature."""

    def bent(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values within the bounds."""
        dtype = values.dtype
        bound: npt.NDArray[Any] = np.minimum(np.maximum(values, self.low.astype(dtype)), self.high.astype(dtype))
        return bound

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values; they hold each float64 exactly."""
        bounds = {"low": self.low.reshape(-1).tolist(), "high": self.high.reshape(-1).tolist()}
        return super().to_plain() | bounds


def fit(training: Side, field: Field, transform: Transform) -> FittedTransform:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    told = transform.told(Winsorize)
    bounds: list[Floats] = []

    def offset_and_scale(_sketch: NumberSketch, sample: Floats) -> tuple[Floats, Floats]:
        bounds[:] = np.quantile(sample, [told.low, told.high], axis=0)
        # In order, so that sums are rounded alike however the rows came.
        moments = Moments.of(np.sort(np.clip(sample, *bounds), axis=0))
        return moments.mean, moments.deviation

    found = fit_scaled("winsorize", training.numbers[field.name], transform, offset_and_scale)
    low, high = (bound.reshape(field.shape) for bound in bounds)
    return FittedWinsorized(found.name, found.kind, found.offset, found.scale, found.fill, low=low, high=high)


def read(value: Mapping[str, Any]) -> FittedTransform:
    """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
    parts = read_scaled(value, ("winsorize",))
    try:
        low, high = (read_floats(value, key) for key in ("low", "high"))
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestInvalid(f"expected bounds of {parts[0]!r}, got none that can be read: {error}") from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise ManifestInvalid(f"expected finite bounds of {parts[0]!r}, low up to high, got others")
    return FittedWinsorized(*parts, low=low, high=high)
