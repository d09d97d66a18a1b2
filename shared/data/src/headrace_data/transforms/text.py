"""text: a text as it is, for a network that reads language.

Which tokens it becomes, and how many, is the network's. Nothing is fitted, so nothing of the texts is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.errors import ManifestInvalid
from headrace_data.sketches import Side
from headrace_data.spec import Constant, Field, Transform
from headrace_data.transforms.texts import FittedText


@dataclass(frozen=True)
class FittedLanguage(FittedText):
    """The transform of one text that is read as language."""

    name: str
    """Name of the feature."""
    fill: str | None = None
    """Stands for a missing text, the empty one; None when none may be missing."""

    kind = "text"
    width = 1

    def codes(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the texts, [rows]: their codes are they themselves. None is missing, and becomes ""."""
        texts = np.empty(len(values), dtype=object)
        texts[:] = [text or "" for text in values]
        return texts

    def codes_of(self, column: pa.Array) -> npt.NDArray[Any]:
        """Return the texts of a column; "" is missing."""
        return self.codes(["" if text is None or self.is_blank(text) else text for text in column.to_pylist()])

    def knows(self, text: str) -> bool:
        """Return False: no text has a place of its own."""
        return False

    def apply(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raise TypeError: a network makes tokens of the texts first."""
        raise TypeError(f"feature {self.name!r}: expected a network that reads language")

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values."""
        plain = {"name": self.name, "encode": self.kind}
        return plain if self.fill is None else plain | {"fill": self.fill}


def fit(training: Side, field: Field, transform: Transform) -> FittedLanguage:
    """Return the transform, which has nothing to be fitted."""
    impute = transform.impute
    return FittedLanguage(field.name, str(impute.constant) if isinstance(impute, Constant) else None)


def read(value: Mapping[str, Any]) -> FittedLanguage:
    """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
    name, fill = value.get("name"), value.get("fill")
    if not isinstance(name, str) or not isinstance(fill, str | None):
        raise ManifestInvalid(f"expected a text, got one that cannot be read: {name!r}")
    return FittedLanguage(name, fill)
