"""Fitted transforms: how each feature becomes numbers, as it was fitted on the training split.

A kind of transform is one file here and one row of `TRANSFORMS`. `apply` is the one arithmetic beside the graph's: what
is trained on comes from it, and a model's graph makes the same of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from headrace_data.errors import ManifestInvalid
from headrace_data.folds import FOLD
from headrace_data.sketches import Floats, Side
from headrace_data.spec import Field, Transform
from headrace_data.transforms import (
    buckets,
    cyclic,
    hashing,
    log,
    minmax,
    none,
    onehot,
    ordinal,
    quantile,
    robust,
    standard,
    target,
    text,
    winsorize,
)
from headrace_data.transforms.category import UNSEEN, FittedCategory, FittedKnown
from headrace_data.transforms.scaled import LARGEST, FittedTransform
from headrace_data.transforms.single import FittedSingle
from headrace_data.transforms.texts import FittedText, OutOfFold, Together

__all__ = [
    "LARGEST",
    "TRANSFORMS",
    "UNSEEN",
    "Fitted",
    "FittedCategory",
    "FittedKnown",
    "FittedSingle",
    "FittedText",
    "FittedTransform",
    "FittedTransforms",
    "Floats",
    "Together",
]

_BLOCK_VALUES: Final = 2**19
"""Values that are made at once, of all features together: two megabytes."""
Fitted = FittedTransform | FittedSingle | FittedText
"""The transform of one feature."""


class Kind(Protocol):
    """What a file of a kind of transform holds."""

    def fit(self, training: Side, field: Field, transform: Transform) -> Fitted:
        """Return the transform fitted on the training split. Raises DatasetUnusable."""

    def read(self, value: Mapping[str, Any], /) -> Fitted:
        """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""


TRANSFORMS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "none": none,
        "standard": standard,
        "minmax": minmax,
        "robust": robust,
        "log": log,
        "winsorize": winsorize,
        "quantile": quantile,
        "buckets": buckets,
        "cyclic": cyclic,
        "onehot": onehot,
        "ordinal": ordinal,
        "hash": hashing,
        "target": target,
        "text": text,
    }
)
"""The kinds of transforms, by their names in a pipeline's spec."""


@dataclass(frozen=True)
class FittedTransforms:
    """The transforms of all features, in schema order."""

    features: tuple[Fitted, ...]

    def __getitem__(self, name: str) -> Fitted:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    @property
    def width(self) -> int:
        """Inputs of a network that are made of one row."""
        return sum(feature.width for feature in self.features)

    def apply(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Return what all features become, side by side, [rows, width].

        Numbers come as [rows, *feature shape], texts, or their codes, as [rows].
        """
        return self._joined(columns, training=False)

    def apply_training(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Return what `apply` does of rows that are learned from: what is fitted by the label leaves out their own.

        Where `needs_folds`, their folds are in the column `FOLD`.
        """
        return self._joined(columns, training=True)

    @property
    def needs_folds(self) -> bool:
        """Whether training rows become something else than others do."""
        return any(isinstance(feature, OutOfFold) for feature in self.features)

    def _joined(self, columns: Mapping[str, npt.NDArray[Any]], *, training: bool) -> npt.NDArray[np.float32]:
        rows, width = len(columns[self.features[0].name]), self.width
        joined = np.empty((rows, width), dtype=np.float32)
        # By rows that stay in a core's cache: a column of many rows would pass through memory for each feature.
        for block in range(0, rows, step := max(_BLOCK_VALUES // width, 1)):
            some, place = slice(block, block + step), 0
            for feature in self.features:
                values = columns[feature.name][some]
                if training and isinstance(feature, OutOfFold):
                    applied = feature.apply_training(values, columns[FOLD][some])
                elif isinstance(feature, Together):
                    applied = feature.apply_together([values, *(columns[name][some] for name in feature.others)])
                else:
                    applied = feature.apply(values)
                joined[some, place : (place := place + feature.width)] = applied.reshape(len(applied), feature.width)
        return joined

    def to_plain(self) -> list[dict[str, Any]]:
        """Return the transforms as JSON values."""
        return [feature.to_plain() for feature in self.features]

    @staticmethod
    def from_plain(value: Iterable[Mapping[str, Any]]) -> FittedTransforms:
        """Return the transforms of `to_plain`'s values. Raises ManifestInvalid."""
        return FittedTransforms(tuple(_from_plain(feature) for feature in value))


def _from_plain(value: Mapping[str, Any]) -> Fitted:
    if not isinstance(value, Mapping):
        raise ManifestInvalid(f"expected a fitted transform, got a {type(value).__name__}")
    kind = value.get("encode", value.get("kind"))
    if not isinstance(kind, str) or kind not in TRANSFORMS:
        raise ManifestInvalid(f"expected a kind among {', '.join(TRANSFORMS)} for {value.get('name')!r}, got {kind!r}")
    return TRANSFORMS[kind].read(value)
