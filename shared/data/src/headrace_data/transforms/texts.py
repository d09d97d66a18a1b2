"""Texts that become codes, and these become inputs: what all kinds of encode for texts have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Codes = npt.NDArray[np.int64]


class OutOfFold(ABC):
    """A transform that is fitted by the label: of training rows it makes something else than of all others."""

    @abstractmethod
    def apply_training(self, values: Sequence[str | None] | npt.NDArray[Any], folds: Codes) -> npt.NDArray[np.float32]:
        """Return what training rows become, [rows, width], each as if the rows of its own fold were not there.

        `folds` are as `headrace_data.folds.folds_of` has them, [rows].
        """


class Together(ABC):
    """A transform that makes inputs of the texts of several features together."""

    others: tuple[str, ...]
    """Names of the features that it reads beside its own."""

    @abstractmethod
    def apply_together(self, columns: Sequence[Sequence[str | None] | npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Return what rows become, [rows, width], of the texts of its own feature and of each of `others`."""


class FittedText(ABC):
    """The transform of one text feature."""

    name: str
    """Name of the feature."""
    fill: str | None
    """Stands for a missing text, the empty one; None when none may be missing."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind of transform, by its name in a pipeline's spec."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""

    @abstractmethod
    def apply(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return what texts, or their codes as int64, become: [rows] or [rows, width]."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values."""

    @property
    def optional(self) -> bool:
        """Whether callers may leave the feature out."""
        return self.fill is not None

    @abstractmethod
    def codes(self, values: Sequence[str | None] | npt.NDArray[Any]) -> Codes:
        """Return the code of each text, [rows]; None and "" are missing."""

    @abstractmethod
    def knows(self, text: str) -> bool:
        """Return whether a text has a place of its own."""

    def codes_of(self, column: pa.Array) -> Codes:
        """Return the codes of texts as a dataset holds them: a null is missing, and so is what `is_blank` tells."""
        encoded = column.dictionary_encode()
        texts = ["" if self.is_blank(text) else text for text in encoded.dictionary.to_pylist()]
        codes: Codes = self.codes([*texts, ""])[encoded.indices.fill_null(len(texts)).to_numpy()]
        return codes

    def coded(self, values: Sequence[str | None] | npt.NDArray[Any]) -> Codes:
        """Return the codes of texts; codes as they are."""
        return values if isinstance(values, np.ndarray) and values.dtype == np.int64 else self.codes(values)

    def is_blank(self, text: str) -> bool:
        """Return whether a text stands for a missing one: white space alone, with no place of its own."""
        return self.optional and text.isspace() and not self.knows(text)
