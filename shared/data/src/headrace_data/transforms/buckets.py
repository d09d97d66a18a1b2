"""buckets: the interval that a number lies in, one input for each: for what does not rise or fall with the number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace_data.errors import ManifestInvalid
from headrace_data.sketches import Floats, Side
from headrace_data.spec import Field, Transform
from headrace_data.spec.transform import Buckets
from headrace_data.transforms.single import FittedSingle, quantiles, read_single, single_sample


@dataclass(frozen=True, eq=False)
class FittedBuckets(FittedSingle):
    """The interval of a number."""

    edges: Floats
    """Where intervals begin but for the first, rising; a value on an edge lies above it."""

    kind = "buckets"

    @property
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""
        return len(self.edges) + 1

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return 1 in the column of the interval and 0 in others, [rows, width]; NaN is a missing value."""
        columns = np.zeros((len(values), self.width), dtype=np.float32)
        columns[np.arange(len(values)), np.searchsorted(self.edges, self.filled(values), side="right")] = 1
        return columns

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values; they hold each float64 exactly."""
        return super().to_plain() | {"kind": self.kind, "edges": self.edges.tolist()}


def fit(training: Side, field: Field, transform: Transform) -> FittedBuckets:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    told = transform.told(Buckets)
    sample, fill = single_sample(training.numbers[field.name], transform, needed=told.edges is None)
    if told.edges is not None:
        return FittedBuckets(field.name, fill, np.array(told.edges, dtype=np.float64))
    edges = np.unique(quantiles(sample, np.linspace(0, 1, told.count + 1)[1:-1], field.name))
    # No row lies below the smallest value; where all are equal, others are told apart from it.
    above = edges[edges > sample[0]]
    return FittedBuckets(field.name, fill, above if len(above) else edges)


def read(value: Mapping[str, Any]) -> FittedBuckets:
    """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
    name, fill, (edges,) = read_single(value, "edges")
    if not (np.diff(edges) > 0).all():
        raise ManifestInvalid(f"expected rising edges of {name!r}, got others")
    return FittedBuckets(name, fill, edges)
