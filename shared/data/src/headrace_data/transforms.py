"""Fitted transforms: what filling, encoding and scaling need to know about the training split.

A number is filled where it is missing (NaN), then becomes ``(x - offset) / scale`` per element, within ``LARGEST``. A
category, which is missing when it is empty, is filled and then becomes its place among the categories of the training
split: as one column for each (onehot) or as one number (ordinal). `apply` is the reference for a model's graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.errors import ManifestInvalid
from headrace_data.spec import Encode, Scale

Floats = npt.NDArray[np.float64]
LARGEST: Final = 1e18
"""The most that enters a network, either way. No scaled value that means anything is as large, and this one leaves room
for sums in float32: beyond, they would become infinite, and the answer no number."""
UNSEEN: Final = -1
"""Code of a category that the training split does not have."""
_ENCODES: Final[dict[Any, Encode]] = {"onehot": "onehot", "ordinal": "ordinal"}


@dataclass(frozen=True, eq=False)
class FittedTransform:
    """The transform of one number feature. Two are equal when they fill and scale alike, to the last bit."""

    name: str
    """Name of the feature."""
    kind: Scale
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

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return filled and scaled values of shape [rows, *feature shape]; NaN is a missing value."""
        filled = values.astype(np.float64)
        if self.fill is not None:
            filled = np.where(np.isnan(filled), self.fill, filled)
        with np.errstate(over="ignore"):
            scaled = (filled - self.offset) / self.scale
        return np.clip(scaled, -LARGEST, LARGEST).astype(np.float32)

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
        try:
            shape = tuple(int(size) for size in value["shape"])
            offset, scale = (_floats(value[key], shape) for key in ("offset", "scale"))
            fill = _floats(value["fill"], shape) if "fill" in value else None
            name, kind = str(value["name"]), value["kind"]
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestInvalid(f"expected a fitted transform, got one that cannot be read: {error}") from error
        if kind not in get_args(Scale):
            raise ManifestInvalid(f"expected a kind among {', '.join(get_args(Scale))} for {name!r}, got {kind!r}")
        finite = all(np.isfinite(part).all() for part in (offset, scale, fill) if part is not None)
        if not (finite and (scale > 0).all()):
            raise ManifestInvalid(f"expected finite numbers and scales above zero for {name!r}, got others")
        return FittedTransform(name, kind, offset, scale, fill)


@dataclass(frozen=True)
class FittedCategory:
    """The transform of one category."""

    name: str
    """Name of the feature."""
    encode: Encode
    """How it becomes numbers."""
    categories: tuple[str, ...]
    """What the training split has, sorted by code points, filled values included; never empty."""
    fill: str | None = None
    """Stands for a missing category, the empty text; None when none may be missing."""

    @property
    def optional(self) -> bool:
        """Whether callers may leave the feature out."""
        return self.fill is not None

    @cached_property
    def code_of(self) -> dict[str, int]:
        """Place of each known category, and of the empty text when it may be missing; all others are `UNSEEN`."""
        codes = {category: place for place, category in enumerate(self.categories)}
        return codes if self.fill is None else codes | {"": codes.get(self.fill, UNSEEN)}

    def codes(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the place of each category in `categories`, `UNSEEN` for others; None and "" are missing."""
        code_of = self.code_of
        return np.fromiter((code_of.get(value or "", UNSEEN) for value in values), dtype=np.int64, count=len(values))

    def codes_of(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """Return the codes of texts as a dataset holds them: a null is missing, and so is what `is_blank` tells."""
        encoded = column.dictionary_encode()
        texts = ["" if self.is_blank(text) else text for text in encoded.dictionary.to_pylist()]
        codes: npt.NDArray[np.int64] = self.codes([*texts, ""])[encoded.indices.fill_null(len(texts)).to_numpy()]
        return codes

    def is_blank(self, text: str) -> bool:
        """Return whether a text stands for a missing one: white space alone, and no category of its own when fitted."""
        return self.optional and text.isspace() and text not in self.code_of

    def apply(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return encoded categories: [rows, categories] (onehot) or [rows] (ordinal)."""
        codes, count = self.codes(values), len(self.categories)
        columns = codes[:, np.newaxis] == np.arange(count) if self.encode == "onehot" else _ordinals(codes, count)
        return columns.astype(np.float32)

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values."""
        plain = {"name": self.name, "encode": self.encode, "categories": list(self.categories)}
        return plain if self.fill is None else plain | {"fill": self.fill}

    @staticmethod
    def from_plain(value: Mapping[str, Any]) -> FittedCategory:
        """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
        name, encode, categories, fill = (value.get(key) for key in ("name", "encode", "categories", "fill"))
        if not isinstance(name, str) or encode not in _ENCODES or not isinstance(fill, str | None):
            raise ManifestInvalid(f"expected an encoded category, got one that cannot be read: {name!r}")
        if not isinstance(categories, list) or not categories or not all(isinstance(each, str) for each in categories):
            raise ManifestInvalid(f"expected a list of texts as categories of {name!r}, got another value")
        if categories != sorted(set(categories)):
            raise ManifestInvalid(f"expected sorted categories of {name!r}, each once, got them otherwise")
        return FittedCategory(name, _ENCODES[encode], tuple(categories), fill)


def _ordinals(codes: npt.NDArray[np.int64], count: int) -> npt.NDArray[Any]:
    return np.where(codes == UNSEEN, count, codes)


Fitted = FittedTransform | FittedCategory
"""The transform of one feature."""


@dataclass(frozen=True)
class FittedTransforms:
    """The transforms of all features, in schema order."""

    features: tuple[Fitted, ...]

    def __getitem__(self, name: str) -> Fitted:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    def apply(self, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the transformed features: numbers as [rows, *feature shape], categories as `FittedCategory.apply`."""
        return {feature.name: feature.apply(columns[feature.name]) for feature in self.features}

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
    return FittedCategory.from_plain(value) if "encode" in value else FittedTransform.from_plain(value)


def _floats(values: Any, shape: tuple[int, ...]) -> Floats:
    return np.array(values, dtype=np.float64).reshape(shape)
