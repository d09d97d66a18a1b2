"""Texts that become numbers by their place among the training split's: the kinds onehot and ordinal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.sketches import Values
from headrace_data.spec import Transform
from headrace_data.spec.transform import Categories
from headrace_data.transforms.filling import all_missing, text_fill
from headrace_data.transforms.texts import FittedText

UNSEEN: Final = -1
"""Code of a category that the training split does not have."""
_KINDS: Final = ("onehot", "ordinal")


class FittedKnown(FittedText):
    """The transform of one text of which the training split's categories are told apart."""

    categories: tuple[str, ...]
    """What is told apart of the training split, sorted by code points, filled values included; never empty."""

    @cached_property
    def code_of(self) -> dict[str, int]:
        """Place of each known category, and of the empty text when it may be missing; all others are `UNSEEN`."""
        codes = {category: place for place, category in enumerate(self.categories)}
        return codes if self.fill is None else codes | {"": codes.get(self.fill, UNSEEN)}

    def codes(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the place of each category in `categories`, `UNSEEN` for others; None and "" are missing."""
        code_of = self.code_of
        return np.fromiter((code_of.get(value or "", UNSEEN) for value in values), dtype=np.int64, count=len(values))

    def knows(self, text: str) -> bool:
        """Return whether a text has a place of its own."""
        return text in self.code_of


@dataclass(frozen=True)
class FittedCategory(FittedKnown):
    """The transform of one category."""

    name: str
    """Name of the feature."""
    encode: str
    """How it becomes numbers."""
    categories: tuple[str, ...]
    """What is told apart of the training split, sorted by code points, filled values included; never empty."""
    fill: str | None = None
    """Stands for a missing category, the empty text; None when none may be missing."""
    rare: bool = False
    """Whether the training split has others, which are learned as one, and what was never seen with them."""

    @property
    def kind(self) -> str:
        """The kind of transform."""
        return self.encode

    @property
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""
        return len(self.categories) + self.rare if self.encode == "onehot" else 1

    def apply(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return encoded categories: [rows, categories] (onehot) or [rows] (ordinal).

        `values` are texts, or their codes as int64.
        """
        codes, count = self.coded(values), len(self.categories)
        if self.encode == "ordinal":
            return np.where(codes == UNSEEN, count, codes).astype(np.float32)
        columns = np.zeros((len(codes), self.width), dtype=np.float32)
        # The code of what is not told apart is -1: the last column, where there is one for it.
        rows = np.arange(len(codes)) if self.rare else np.nonzero(codes != UNSEEN)[0]
        columns[rows, codes[rows]] = 1
        return columns

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values."""
        plain: dict[str, Any] = {"name": self.name, "encode": self.encode, "categories": list(self.categories)}
        plain |= {"rare": True} if self.rare else {}
        return plain if self.fill is None else plain | {"fill": self.fill}

    @staticmethod
    def from_plain(value: Mapping[str, Any]) -> FittedCategory:
        """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
        name, encode, categories, fill = (value.get(key) for key in ("name", "encode", "categories", "fill"))
        rare = value.get("rare", False)
        if not isinstance(name, str) or encode not in _KINDS or not isinstance(fill, str | None):
            raise ManifestInvalid(f"expected an encoded category, got one that cannot be read: {name!r}")
        if not isinstance(categories, list) or not categories or not all(isinstance(each, str) for each in categories):
            raise ManifestInvalid(f"expected a list of texts as categories of {name!r}, got another value")
        if categories != sorted(set(categories)):
            raise ManifestInvalid(f"expected sorted categories of {name!r}, each once, got them otherwise")
        if not isinstance(rare, bool):
            raise ManifestInvalid(f"expected true or false for the rare categories of {name!r}, got {rare!r}")
        return FittedCategory(name, str(encode), tuple(categories), fill, rare)


def fit_category(encode: str, values: Values, transform: Transform) -> FittedCategory:
    """Return a transform fitted on what is known of a feature.

    Raises DatasetUnusable for too many categories, or none.
    """
    limited = transform.limits_categories
    if values.beyond:
        cure = (
            "encode: hash takes any number"
            if limited
            else f"encode: {{kind: {encode}, maxCategories: 50}} puts the rare ones together, and hash takes any number"
        )
        raise DatasetUnusable(
            f"expected at most {values.most} categories of {values.name!r} in split train, got more: a text with so "
            f"many values identifies rows and does not describe them. The next one came {values.beyond}. In "
            f"prepare.transform, {cure}; or have the producer send fewer, or leave the field out "
            "under another metadata.name"
        )
    fill = text_fill(values, transform)
    # What stands for the missing is a category when the split has any: else nothing was learned about it.
    found = values.counts + Counter({fill: values.missing} if fill is not None and values.missing else {})
    if not found:
        raise all_missing(values.name, "{constant: unknown}")
    kept = _frequent(found, transform.told(Categories)) if limited else list(found)
    return FittedCategory(values.name, encode, tuple(sorted(kept)), fill, len(kept) < len(found) and encode == "onehot")


def _frequent(found: Counter[str], told: Categories) -> list[str]:
    """Return the categories that are told apart, of several that are equally frequent the first in sorted order."""
    ranked = sorted(found, key=lambda category: (-found[category], category))[: told.max_categories]
    # One is always told apart, be it as rare as others.
    return [category for category in ranked if found[category] >= (told.min_count or 1)] or ranked[:1]
