"""Counts the rows of a dataset whose key another row has: duplicates are dropped within a partition only."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.cleaning import keys_of
from headrace_data.spec import Pipeline

MOST_HASHES: Final = 1 << 20
"""Keys up to which the count is exact; beyond, it is an estimate from as many (8 MiB)."""


class Repeats:
    """The keys of a dataset, as hashes: all of them, or a sample by hash, which has every row of the keys in it."""

    def __init__(self, pipeline: Pipeline, most: int = MOST_HASHES) -> None:
        """Count nothing for a pipeline without a key, or one that keeps duplicates."""
        self._pipeline = pipeline
        self._counts = pipeline.prepare.clean.duplicates == "drop" and pipeline.stream.key_field is not None
        self._most = most
        self._shift = 0
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._held = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch."""
        if not self._counts or not len(batch):
            return
        self._hold(self._sampled(keys_of(batch, self._pipeline)[:, 0]))
        while self._held > self._most:
            self._shift += 1
            kept = self._sampled(np.concatenate(self._hashes))
            self._hashes, self._held = [], 0
            self._hold(kept)

    @property
    def rows(self) -> int:
        """Rows whose key a row before them has; an estimate when there are more than `most` rows."""
        if not self._held:
            return 0
        hashes = np.concatenate(self._hashes)
        return (len(hashes) - len(np.unique(hashes))) << self._shift

    def _hold(self, hashes: npt.NDArray[np.uint64]) -> None:
        self._hashes.append(hashes)
        self._held += len(hashes)

    def _sampled(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return the hashes whose first bits are zero: one key of 2 ** shift, with all of its rows."""
        return hashes[hashes >> np.uint64(64 - self._shift) == 0] if self._shift else hashes
