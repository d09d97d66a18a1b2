"""A split of a dataset in pieces that fit into memory, to be measured on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy.typing as npt

from headrace_data.dataset import DatasetReader
from headrace_data.split import SplitName

_MOST_BYTES: Final = 64 * 2**20
"""What a chunk may take in memory, about: a split that takes less is one chunk, and stays in memory."""
Array = npt.NDArray[Any]


class Chunks:
    """The rows of a split, in canonical order. They may be iterated again and again."""

    def __init__(self, reader: DatasetReader, split: SplitName, most_bytes: int = _MOST_BYTES) -> None:
        """Read the split now when it takes no more than `most_bytes`, and each time again when it takes more."""
        self._reader = reader
        self._split: SplitName = split
        self._rows = max(most_bytes // reader.row_bytes, 1)
        self._whole = self._labelled(reader.columns(split)) if len(self) <= self._rows else None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self._reader.manifest.splits[self._split].rows

    def __iter__(self) -> Iterator[tuple[dict[str, Array], Array]]:
        """Yield features and labels, as `DatasetReader.columns` has them. Raises DatasetInvalid as it."""
        if self._whole is not None:
            yield self._whole
            return
        for part in self._reader.parts(self._split):
            for group in part():
                for start in range(0, len(group), self._rows):
                    yield self._labelled(self._reader.arrays(group.slice(start, self._rows)))

    def _labelled(self, columns: dict[str, Array]) -> tuple[dict[str, Array], Array]:
        truth = columns.pop(self._reader.manifest.label.name)
        return columns, truth
