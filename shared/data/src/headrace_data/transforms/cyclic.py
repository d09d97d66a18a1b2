"""cyclic: the place of a number in a cycle as sine and cosine, such as the hour of the day of a time in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_data.errors import ManifestInvalid
from headrace_data.sketches import Floats, Side
from headrace_data.spec import Field, Transform
from headrace_data.spec.transform import Cyclic
from headrace_data.transforms.single import FittedSingle, read_single, single_sample

FARTHEST: Final = 1e300
"""Numbers beyond this, infinite ones too, count as this: they have no place in a cycle."""


@dataclass(frozen=True, eq=False)
class FittedCyclic(FittedSingle):
    """The place of a number in cycles."""

    periods: Floats
    """Lengths of the cycles, in the unit of the feature."""

    kind = "cyclic"

    @property
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""
        return 2 * len(self.periods)

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the sines of all cycles, then the cosines, [rows, width]; NaN is a missing value."""
        given = np.clip(self.filled(values), -FARTHEST, FARTHEST)
        angles = (np.fmod(given[:, np.newaxis], self.periods) / self.periods * (2 * np.pi)).astype(np.float32)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values; they hold each float64 exactly."""
        return super().to_plain() | {"kind": self.kind, "periods": self.periods.tolist()}


def fit(training: Side, field: Field, transform: Transform) -> FittedCyclic:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    _, fill = single_sample(training.numbers[field.name], transform, needed=False)
    return FittedCyclic(field.name, fill, np.array(transform.told(Cyclic).periods, dtype=np.float64))


def read(value: Mapping[str, Any]) -> FittedCyclic:
    """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
    name, fill, (periods,) = read_single(value, "periods")
    if not (periods > 0).all():
        raise ManifestInvalid(f"expected periods above zero of {name!r}, got others")
    return FittedCyclic(name, fill, periods)
