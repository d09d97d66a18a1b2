"""target: what the label is on average in a text's category: its mean, or the share of each class.

Drawn to the mean of all rows by `smoothing`, as many rows as the category is taken to have beside its own: the
empirical Bayes estimate of Micci-Barreca, "A Preprocessing Scheme for High-Cardinality Categorical Attributes in
Classification and Prediction Problems", SIGKDD Explorations 3(1), 2001. A training row sees what the other folds make
of its category: its own label would come back in it, and a network would learn a text by heart that tells nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.folds import FOLDS
from headrace_data.label_sums import MOST_CLASSES, NUMBERS, LabelSums
from headrace_data.sketches import Floats, Side
from headrace_data.spec import Field, Transform
from headrace_data.spec.transform import Target
from headrace_data.transforms.category import FittedKnown
from headrace_data.transforms.filling import all_missing, text_fill
from headrace_data.transforms.texts import OutOfFold


@dataclass(frozen=True)
class FittedTarget(FittedKnown, OutOfFold):
    """The transform of one text by what its rows have for a label."""

    name: str
    """Name of the feature."""
    categories: tuple[str, ...]
    """What is told apart of the training split, sorted by code points, filled values included; never empty."""
    rows: Floats
    """Rows of each category by fold, [categories, folds]."""
    sums: Floats
    """Sums of their labels, or rows of each class, [categories, folds, width]."""
    mean: Floats
    """Mean of all rows of the training split, [width]: stands for what was never seen, or is not told apart."""
    scale: Floats
    """By what is divided, [width], so that the training split's categories have deviation 1."""
    smoothing: float
    """Rows of the mean that each category is taken to have beside its own."""
    fill: str | None = None
    """Stands for a missing category, the empty text; None when none may be missing."""

    kind = "target"

    @property
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""
        return len(self.mean)

    @cached_property
    def table(self) -> npt.NDArray[np.float32]:
        """What each category becomes, [categories + 1, width]; the last is for all others."""
        return self._inputs(self.rows.sum(axis=1), self.sums.sum(axis=1))

    @cached_property
    def tables(self) -> npt.NDArray[np.float32]:
        """What each becomes in the rows of a fold, [folds, categories + 1, width]."""
        others = [(np.delete(self.rows, fold, 1), np.delete(self.sums, fold, 1)) for fold in range(FOLDS)]
        return np.stack([self._inputs(rows.sum(axis=1), sums.sum(axis=1)) for rows, sums in others])

    def apply(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return what texts, or their codes as int64, become: [rows, width]."""
        inputs: npt.NDArray[np.float32] = self.table[self.coded(values)]
        return inputs

    def apply_training(
        self, values: Sequence[str | None] | npt.NDArray[Any], folds: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return what texts of training rows become, [rows, width], each without the rows of its own fold."""
        inputs: npt.NDArray[np.float32] = self.tables[folds, self.coded(values)]
        return inputs

    def _inputs(self, rows: Floats, sums: Floats) -> npt.NDArray[np.float32]:
        found = smoothed(rows, sums, self.mean, self.smoothing)
        # The mean itself stands for all others: it is 0.
        return np.vstack([(found - self.mean) / self.scale, np.zeros((1, self.width))]).astype(np.float32)

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values."""
        plain: dict[str, Any] = {"name": self.name, "encode": self.kind, "categories": list(self.categories)}
        plain |= {name: getattr(self, name).tolist() for name in _ARRAYS}
        plain["smoothing"] = self.smoothing
        return plain if self.fill is None else plain | {"fill": self.fill}


_ARRAYS: Final = ("rows", "sums", "mean", "scale")


def fit(training: Side, field: Field, transform: Transform) -> FittedTarget:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    told, values, found = transform.told(Target), training.texts[field.name], training.sums[field.name]
    if values.beyond:
        raise DatasetUnusable(
            f"expected at most {values.most} categories of {field.name!r} in split train, got more: a text with so "
            f"many values identifies rows and does not describe them. The next one came {values.beyond}. encode: hash "
            "in prepare.transform takes any number; or leave the field out under another metadata.name"
        )
    fill = text_fill(values, transform)
    counts = values.counts + Counter({fill: values.missing} if fill is not None and values.missing else {})
    if not counts:
        raise all_missing(field.name, "{constant: unknown}")
    ranked = sorted(counts, key=lambda category: (-counts[category], category))
    categories = tuple(sorted(ranked[: told.max_categories]))
    rows, sums, mean = _arrays(found, categories, fill, field.name)
    spread = smoothed(rows.sum(axis=1), sums.sum(axis=1), mean, told.smoothing) - mean
    shares = rows.sum(axis=1) / rows.sum()
    most = np.abs(spread).max(axis=0)
    most = np.where(most > 0, most, 1.0)  # squares of very large labels would overflow
    scale = np.sqrt(shares @ np.square(spread / most)) * most
    scale = np.where(scale > 0, scale, 1.0)
    return FittedTarget(field.name, categories, rows, sums, mean, scale, told.smoothing, fill)


def smoothed(rows: Floats, sums: Floats, mean: Floats, smoothing: float) -> Floats:
    """Return the means of categories, [categories, width], drawn to that of all; it stands for one without rows."""
    weights = (rows + smoothing)[:, np.newaxis]
    return np.where(weights > 0, (sums + smoothing * mean) / np.where(weights > 0, weights, 1.0), mean)


def _arrays(found: LabelSums, categories: Sequence[str], fill: str | None, name: str) -> tuple[Floats, Floats, Floats]:
    """Return rows by category and fold, sums by category, fold and input, and the mean of all rows by input."""
    classes = sorted({key[2] for key, _, _ in found.found()})
    if len(classes) > MOST_CLASSES:
        raise DatasetUnusable(
            f"expected at most {MOST_CLASSES} classes, whose shares {name!r} becomes with encode: target, got "
            f"{len(classes)}: of a label of numbers `of: mean` makes one input, and encode: hash needs no label"
        )
    # Of two classes one share tells the other; numbers are summed up as one class.
    shown = classes[1:] if len(classes) == 2 else classes
    places = {category: place for place, category in enumerate(categories)}
    rows, sums = np.zeros((len(places), FOLDS)), np.zeros((len(places), FOLDS, len(shown)))
    count, total = 0, np.zeros(len(shown))
    for (category, fold, of_class), held, summed in found.found():
        amounts = np.array([(summed if each == NUMBERS else held) if each == of_class else 0.0 for each in shown])
        count, total = count + held, total + amounts
        place = places.get(category or fill or "")
        if place is not None:
            rows[place, fold] += held
            sums[place, fold] += amounts
    return rows, sums, total / count


def read(value: Mapping[str, Any]) -> FittedTarget:
    """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
    name, categories, fill, smoothing = (value.get(key) for key in ("name", "categories", "fill", "smoothing"))
    if not isinstance(name, str) or not isinstance(fill, str | None) or not isinstance(smoothing, int | float):
        raise ManifestInvalid(f"expected a category encoded by the label, got one that cannot be read: {name!r}")
    if not isinstance(categories, list) or not categories or not all(isinstance(each, str) for each in categories):
        raise ManifestInvalid(f"expected a list of texts as categories of {name!r}, got another value")
    try:
        rows, sums, mean, scale = (np.array(value[key], dtype=np.float64) for key in _ARRAYS)
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestInvalid(f"expected numbers by category of {name!r}, got another value") from error
    shape = len(categories), FOLDS
    expected = (shape, (*shape, len(mean)), mean.shape, mean.shape)
    finite = all(np.isfinite(each).all() for each in (rows, sums, mean, scale)) and math.isfinite(smoothing)
    if not finite or mean.ndim != 1 or (rows.shape, sums.shape, mean.shape, scale.shape) != expected or smoothing < 0:
        raise ManifestInvalid(f"expected finite numbers for each of {len(categories)} categories of {name!r}")
    return FittedTarget(name, tuple(categories), rows, sums, mean, scale, float(smoothing), fill)
