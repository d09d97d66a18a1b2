"""quantile: the rank of a value among those of the training split, so that no spread or outlier counts.

Ranks are known at 101 quantiles, and on straight lines between them. As a bell they are the inverse of the normal
distribution, cut at a thousandth at both ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_data.errors import ManifestInvalid
from headrace_data.sketches import Floats, Side
from headrace_data.spec import Field, Transform
from headrace_data.spec.transform import Quantile
from headrace_data.transforms.single import FittedSingle, quantiles, read_single, single_sample

_KNOTS: Final = 101
_LEAST_RANK: Final = 0.001
_LEAST_STEP: Final = float(np.finfo(np.float32).tiny)
"""Values that are closer than this are one."""


@dataclass(frozen=True, eq=False)
class FittedQuantile(FittedSingle):
    """The rank of a number."""

    values: Floats
    """Rising values; at least two."""
    levels: Floats
    """What each of them becomes. Others lie on straight lines between, or at the ends."""

    kind = "quantile"
    width = 1

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the ranks of values, [rows]; NaN is a missing value."""
        return np.interp(self.filled(values), self.values, self.levels).astype(np.float32)

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values; they hold each float64 exactly."""
        return super().to_plain() | {
            "kind": self.kind,
            "values": self.values.tolist(),
            "levels": self.levels.tolist(),
        }


def fit(training: Side, field: Field, transform: Transform) -> FittedQuantile:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    sample, fill = single_sample(training.numbers[field.name], transform, needed=True)
    ranks = np.linspace(0, 1, _KNOTS)
    found = quantiles(sample, ranks, field.name)
    begins = np.concatenate([[True], np.diff(found) >= _LEAST_STEP])
    # What many rows have lies in the middle of their ranks.
    last = np.concatenate([np.nonzero(begins)[0][1:], [_KNOTS]]) - 1
    values, middles = found[begins], (ranks[begins] + ranks[last]) / 2
    if transform.told(Quantile).to == "normal":
        bell = NormalDist()
        middles = np.array([bell.inv_cdf(min(max(rank, _LEAST_RANK), 1 - _LEAST_RANK)) for rank in middles])
    if len(values) == 1:
        values, middles = np.array([values[0], np.nextafter(values[0], np.inf) + 1]), np.repeat(middles, 2)
    return FittedQuantile(field.name, fill, values, middles)


def read(value: Mapping[str, Any]) -> FittedQuantile:
    """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
    name, fill, (values, levels) = read_single(value, "values", "levels")
    if len(values) < 2 or len(levels) != len(values) or not (np.diff(values) > 0).all():
        raise ManifestInvalid(f"expected two or more rising values of {name!r} with a level each, got others")
    return FittedQuantile(name, fill, values, levels)
