"""Texts that become numbers by their place among the training split's: the kinds onehot and ordinal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.sketches import MAX_CATEGORIES, Values
from headrace_data.spec import Encode, Transform
from headrace_data.transforms.filling import all_missing, text_fill

UNSEEN: Final = -1
"""Code of a category that the training split does not have."""
_ENCODES: Final[dict[Any, Encode]] = {"onehot": "onehot", "ordinal": "ordinal"}


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
    def kind(self) -> Encode:
        """The kind of transform."""
        return self.encode

    @property
    def optional(self) -> bool:
        """Whether callers may leave the feature out."""
        return self.fill is not None

    @property
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""
        return len(self.categories) if self.encode == "onehot" else 1

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
        """Return encoded categories: [rows, categories] (onehot) or [rows] (ordinal).

        `values` are texts, or their codes as int64.
        """
        is_coded = isinstance(values, np.ndarray) and values.dtype == np.int64
        codes, count = np.asarray(values) if is_coded else self.codes(values), len(self.categories)
        if self.encode == "ordinal":
            return np.where(codes == UNSEEN, count, codes).astype(np.float32)
        columns = np.zeros((len(codes), count), dtype=np.float32)
        (known,) = np.nonzero(codes != UNSEEN)
        columns[known, codes[known]] = 1
        return columns

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


def fit_category(encode: Encode, values: Values, transform: Transform) -> FittedCategory:
    """Return a transform fitted on what is known of a feature.

    Raises DatasetUnusable for too many categories, or none.
    """
    if values.beyond:
        raise DatasetUnusable(
            f"expected at most {MAX_CATEGORIES} categories of {values.name!r} in split train, got more: "
            f"a text with so many values identifies rows and does not describe them. The next one came "
            f"{values.beyond}. Have the producer send fewer, or leave the field out under another metadata.name"
        )
    fill = text_fill(values, transform)
    # What stands for the missing is a category when the split has any: else nothing was learned about it.
    found = {*values.counts, *([fill] if fill is not None and values.missing else [])}
    if not found:
        raise all_missing(values.name, "{constant: unknown}")
    return FittedCategory(values.name, encode, tuple(sorted(found)), fill)
