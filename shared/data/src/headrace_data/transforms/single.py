"""Single numbers that become inputs by their place: what quantile, buckets and cyclic have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.sketches import Floats, NumberSketch
from headrace_data.spec import Transform
from headrace_data.transforms.filling import EMPTY, fill_of, require_values


@dataclass(frozen=True, eq=False)
class FittedSingle(ABC):
    """The transform of a feature that is one number in each row. Two are equal when they fill and place alike."""

    name: str
    """Name of the feature."""
    fill: float | None
    """Stands for a missing value, NaN; None when none may be missing."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedSingle) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        return hash((type(self), self.name, self.fill))

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind of transform, by its name in a pipeline's spec."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""

    @abstractmethod
    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return what values, [rows], become: [rows] or [rows, width]; NaN is a missing value."""

    @property
    def optional(self) -> bool:
        """Whether callers may leave the feature out."""
        return self.fill is not None

    def filled(self, values: npt.NDArray[Any]) -> Floats:
        """Return values, [rows], as float64 with what is missing filled."""
        given = values.astype(np.float64)
        return given if self.fill is None else np.where(np.isnan(given), self.fill, given)

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values; kinds add theirs."""
        return {"name": self.name} | ({} if self.fill is None else {"fill": self.fill})


def single_sample(sketch: NumberSketch, transform: Transform, *, needed: bool) -> tuple[Floats, float | None]:
    """Return the values that are known of a feature, [rows] in order, and what stands for a missing one.

    There are none where no sample is kept. Raises DatasetUnusable when values are `needed`, or a gap is filled from
    them, and all are missing.
    """
    require_values(sketch, transform, needed=needed)
    kept = sketch.sample is not None and sketch.moments().count
    sample = sketch.sample.values() if sketch.sample is not None and kept else EMPTY
    fill = fill_of(transform, sketch, sample)
    return np.sort(sample.reshape(-1)), None if fill is None else float(fill[0])


def quantiles(sample: Floats, ranks: Floats, name: str) -> Floats:
    """Return the quantiles of values, [rows], at least one. Raises DatasetUnusable for values that are too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.asarray(np.quantile(sample, ranks))
    if not np.isfinite(found).all():
        raise DatasetUnusable(f"expected values of {name!r} that can be scaled, got too large ones")
    return found


def read_single(value: Mapping[str, Any], *keys: str) -> tuple[str, float | None, list[Floats]]:
    """Return name, fill and the lists of numbers under `keys`, of JSON values. Raises ManifestInvalid."""
    try:
        name, fill = str(value["name"]), float(value["fill"]) if "fill" in value else None
        lists = [np.array(value[key], dtype=np.float64).reshape(-1) for key in keys]
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestInvalid(f"expected a fitted transform, got one that cannot be read: {error}") from error
    if not all(np.isfinite(part).all() and len(part) for part in (*lists, np.array([fill or 0.0]))):
        raise ManifestInvalid(f"expected finite numbers for {name!r}, got others or none")
    return name, fill, lists
