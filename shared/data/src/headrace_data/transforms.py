"""Fitted transforms: what scaling needs to know about the training split.

Every transform is ``(x - offset) / scale`` per element. Statistics are taken in float64 over rows in canonical order
and in chunks of a fixed size, so they do not depend on how rows were batched or stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import elements
from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.spec import Field, Pipeline

Kind = Literal["standard", "minmax", "none"]
"""How a feature is scaled."""
Floats = npt.NDArray[np.float64]
_CHUNK: Final = 8192
_KINDS: Final = ("standard", "minmax", "none")


@dataclass(frozen=True, eq=False)
class FittedTransform:
    """The transform of one feature. Two are equal when they scale alike, to the last bit."""

    name: str
    """Name of the feature."""
    kind: Kind
    """How it is scaled."""
    offset: Floats
    """Subtracted first: the mean (standard), the smallest value (minmax) or 0. Shape of the feature."""
    scale: Floats
    """Divided by then: the population's standard deviation, the span or 1; 1 also where it would be 0."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedTransform) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        return hash((self.name, self.kind, self.offset.tobytes(), self.scale.tobytes()))

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return scaled values of shape [rows, *feature shape]. The reference for what a model's graph does."""
        return ((values.astype(np.float64) - self.offset) / self.scale).astype(np.float32)

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values; they hold each float64 exactly."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.offset.shape),
            "offset": self.offset.reshape(-1).tolist(),
            "scale": self.scale.reshape(-1).tolist(),
        }

    @staticmethod
    def from_plain(value: Mapping[str, Any]) -> FittedTransform:
        """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
        try:
            shape = tuple(int(size) for size in value["shape"])
            offset, scale = (np.array(value[key], dtype=np.float64).reshape(shape) for key in ("offset", "scale"))
            name, kind = str(value["name"]), value["kind"]
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestInvalid(f"expected a fitted transform, got one that cannot be read: {error}") from error
        if kind not in _KINDS or not (np.isfinite(offset).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ManifestInvalid(f"expected a finite transform of a known kind for {name!r}, got another")
        return FittedTransform(name, kind, offset, scale)


@dataclass(frozen=True)
class FittedTransforms:
    """The transforms of all features, in schema order."""

    features: tuple[FittedTransform, ...]

    def __getitem__(self, name: str) -> FittedTransform:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    def apply(self, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the scaled features; each of shape [rows, *feature shape]."""
        return {feature.name: feature.apply(columns[feature.name]) for feature in self.features}

    def to_plain(self) -> list[dict[str, Any]]:
        """Return the transforms as JSON values."""
        return [feature.to_plain() for feature in self.features]

    @staticmethod
    def from_plain(value: Iterable[Mapping[str, Any]]) -> FittedTransforms:
        """Return the transforms of `to_plain`'s values. Raises ManifestInvalid."""
        return FittedTransforms(tuple(FittedTransform.from_plain(feature) for feature in value))


def fit(batches: Iterable[pa.RecordBatch], pipeline: Pipeline) -> FittedTransforms:
    """Return the transforms fitted on these rows: the training split in canonical order.

    Raises DatasetUnusable when there is no row, or a feature's values are too large to be scaled.
    """
    features = pipeline.stream.features
    statistics = {field.name: _Statistics(field) for field in features}
    rows = 0
    for batch in _fixed_chunks(batches):
        rows += len(batch)
        for field in features:
            statistics[field.name].add(elements(batch, field).astype(np.float64))
    if rows == 0:
        raise DatasetUnusable("expected rows in split train, got none")
    scales = pipeline.prepare.transform
    kinds: dict[str, Kind] = {name: transform.scale for name, transform in scales.items()}
    return FittedTransforms(tuple(statistics[field.name].fitted(kinds.get(field.name, "none")) for field in features))


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


class _Statistics:
    """Count, mean, squared deviations and extremes of one feature's elements.

    Chunks are merged as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances" (1979).
    """

    def __init__(self, field: Field) -> None:
        self._field = field
        self._count = 0
        self._mean: Floats = np.zeros(field.size)
        self._squares: Floats = np.zeros(field.size)
        self._low: Floats = np.full(field.size, np.inf)
        self._high: Floats = np.full(field.size, -np.inf)

    def add(self, chunk: Floats) -> None:
        """Add rows, shape [rows, elements]."""
        count = len(chunk)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = chunk.mean(axis=0)
            squares = np.square(chunk - mean).sum(axis=0)
            total = self._count + count
            delta = mean - self._mean
            self._squares += squares + np.square(delta) * (self._count * count / total)
            self._mean += delta * (count / total)
        self._count = total
        self._low = np.minimum(self._low, chunk.min(axis=0))
        self._high = np.maximum(self._high, chunk.max(axis=0))

    def fitted(self, kind: Kind) -> FittedTransform:
        with np.errstate(over="ignore", invalid="ignore"):
            offset, scale = self._offset_and_scale(kind)
        if not (np.isfinite(offset).all() and np.isfinite(scale).all()):
            raise DatasetUnusable(f"expected values of {self._field.name!r} that can be scaled, got too large ones")
        # A span that a float32 graph would take for zero counts as none.
        scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale)
        shape = self._field.shape
        return FittedTransform(self._field.name, kind, offset.reshape(shape), scale.reshape(shape))

    def _offset_and_scale(self, kind: Kind) -> tuple[Floats, Floats]:
        if kind == "none":
            return np.zeros_like(self._mean), np.ones_like(self._mean)
        if kind == "minmax":
            return self._low, self._high - self._low
        # Rounding may leave a little deviation where there is none: the extremes know better.
        constant = self._low == self._high
        deviation = np.sqrt(self._squares / self._count)
        return np.where(constant, self._low, self._mean), np.where(constant, 0.0, deviation)
