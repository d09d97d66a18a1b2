"""Numbers that are shifted and divided: all that standard, minmax, robust and none do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.sketches import Floats, NumberSketch
from headrace_data.spec import Transform
from headrace_data.transforms.filling import EMPTY, fill_of, filled, require_values

LARGEST: Final = 1e18
"""The most that enters a network, either way. No scaled value that means anything is as large, and this one leaves room
for sums in float32: beyond, they would become infinite, and the answer no number."""
_FITS_FLOAT32: Final = {np.dtype(name) for name in ("int8", "int16", "uint8", "uint16", "float32")}
"""Types whose values float32 holds exactly. The others are shifted and scaled in float64 first."""
_MOST_SHIFT: Final = 16.0
"""How many scales a float32 transform may shift: then its rounding stays below 2^-20 of a scale."""
_MOST_SIZE: Final = 1e30
"""How large its offset and scale may be: no difference of two values leaves float32 then."""
_KINDS: Final = ("standard", "minmax", "robust", "none")


@dataclass(frozen=True, eq=False)
class FittedTransform:
    """The transform of one number feature. Two are equal when they fill and scale alike, to the last bit."""

    name: str
    """Name of the feature."""
    kind: str
    """How it is scaled."""
    offset: Floats
    """Subtracted first: the mean (standard), smallest value (minmax), median (robust) or 0. Shape of the feature."""
    scale: Floats
    """Divided by then: the population's standard deviation, the span, the distance of the quartiles or 1; 1 also where
    it would be 0."""
    fill: Floats | None = None
    """Stands for a missing value, NaN; None when none may be missing. Shape of the feature."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedTransform) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        return hash((self.name, self.kind, self.offset.tobytes(), self.scale.tobytes()))

    @property
    def optional(self) -> bool:
        """Whether callers may leave the feature out."""
        return self.fill is not None

    @property
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""
        return self.offset.size

    def bent(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what is shifted and divided of filled values: these here, something of them in other kinds."""
        return values

    def computing_type(self, raw: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type in which values of type `raw` are computed: wide enough for each, and for the shift."""
        offset, scale = np.abs(self.offset), np.abs(self.scale)
        near = (offset <= _MOST_SHIFT * scale).all() and max(offset.max(), scale.max()) <= _MOST_SIZE
        return np.dtype(np.float32 if near and raw in _FITS_FLOAT32 else np.float64)

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return filled and scaled values of shape [rows, *feature shape]; NaN is a missing value.

        They are computed in the type in which a graph computes them, and are what it makes of them to the last bit.
        """
        dtype = self.computing_type(values.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            given = filled(values.astype(dtype, copy=False), self.fill)
            scaled = self.bent(given) - self.offset.astype(dtype)
            scaled /= self.scale.astype(dtype)
        limited: npt.NDArray[np.float32] = np.clip(scaled, -LARGEST, LARGEST, out=scaled).astype(np.float32, copy=False)
        return limited

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values; they hold each float64 exactly."""
        plain = {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.offset.shape),
            "offset": self.offset.reshape(-1).tolist(),
            "scale": self.scale.reshape(-1).tolist(),
        }
        return plain if self.fill is None else plain | {"fill": self.fill.reshape(-1).tolist()}

    @staticmethod
    def from_plain(value: Mapping[str, Any]) -> FittedTransform:
        """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
        return FittedTransform(*read_scaled(value, _KINDS))


def read_scaled(value: Mapping[str, Any], kinds: Sequence[str]) -> tuple[str, str, Floats, Floats, Floats | None]:
    """Return what `FittedTransform` holds, of JSON values of one of these kinds. Raises ManifestInvalid."""
    try:
        offset, scale = (read_floats(value, key) for key in ("offset", "scale"))
        fill = read_floats(value, "fill") if "fill" in value else None
        name, kind = str(value["name"]), value["kind"]
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestInvalid(f"expected a fitted transform, got one that cannot be read: {error}") from error
    if kind not in kinds:
        raise ManifestInvalid(f"expected a kind among {', '.join(kinds)} for {name!r}, got {kind!r}")
    finite = all(np.isfinite(part).all() for part in (offset, scale, fill) if part is not None)
    if not (finite and (scale > 0).all()):
        raise ManifestInvalid(f"expected finite numbers and scales above zero for {name!r}, got others")
    return name, kind, offset, scale, fill


def read_floats(value: Mapping[str, Any], key: str) -> Floats:
    """Return the numbers of a key in the shape that the values tell. Raises KeyError, TypeError or ValueError."""
    return np.array(value[key], dtype=np.float64).reshape(tuple(int(size) for size in value["shape"]))


def fit_scaled(
    kind: str,
    sketch: NumberSketch,
    transform: Transform,
    offset_and_scale: Callable[[NumberSketch, Floats], tuple[Floats, Floats]],
) -> FittedTransform:
    """Return a transform fitted on what is known of a feature.

    `offset_and_scale` is given that, and the values of the sample, [rows, elements], no rows where none is kept.
    Raises DatasetUnusable for values that cannot be scaled or are all missing.
    """
    field, count = sketch.field, sketch.moments().count
    require_values(sketch, transform, needed=kind != "none")
    with np.errstate(over="ignore", invalid="ignore"):
        sample = sketch.sample.values() if sketch.sample is not None and count else EMPTY
        offset, scale = offset_and_scale(sketch, sample)
        fill = fill_of(transform, sketch, sample)
    if not all(np.isfinite(part).all() for part in (offset, scale, fill) if part is not None):
        raise DatasetUnusable(f"expected values of {field.name!r} that can be scaled, got too large ones")
    # A span that a float32 graph would take for zero counts as none.
    scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale)
    fill = None if fill is None else fill.reshape(field.shape)
    return FittedTransform(field.name, kind, offset.reshape(field.shape), scale.reshape(field.shape), fill)
