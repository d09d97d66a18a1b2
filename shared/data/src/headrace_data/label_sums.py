"""Label sums: what the rows of each category of a text have for a label, fold by fold. They merge as sketches do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Key = tuple[str, int, int | str]
"""A category, which is empty where it is missing, a fold, and a class; of numbers all are of one class."""
NUMBERS: Final = ""
"""The class of labels that are summed up."""
MOST_CLASSES: Final = 20
"""Most classes that are told apart: the share of each becomes an input."""


class LabelSums:
    """Rows, and the sum of their labels, by category, fold and class."""

    def __init__(self, name: str, label: str, most: int, *, classes: bool) -> None:
        """`classes` tells whether labels are counted value by value; else they are numbers, and summed up.

        Of more than `most` categories, or `MOST_CLASSES`, nothing is taken in any more: nobody asks for the sums then.
        """
        self._name, self._label, self._most, self._classes = name, label, most, classes
        self._categories: set[str] = set()
        self._found: set[int | str] = set()
        """The classes."""
        self._whole: dict[Key, tuple[int, float]] = {}
        self._parts: dict[int, dict[Key, tuple[int, float]]] = {}
        """By producers' partition, which come in any order: sums depend on it in their last bits."""

    def add(self, batch: pa.RecordBatch, partition: int, folds: npt.NDArray[np.int64]) -> None:
        """Take in rows of one producers' partition, with the fold of each."""
        if self._is_beyond:
            return
        columns = {"category": batch.column(self._name).fill_null(""), "fold": folds}
        label, keys, sums = batch.column(self._label), ["category", "fold"], []
        if self._classes:
            columns["class"], keys = label, [*keys, "class"]
        else:
            columns["label"], sums = pc.cast(label, pa.float64(), safe=False), [("label", "sum")]
        table = pa.table(columns).filter(pc.is_valid(label))
        found = table.group_by(keys, use_threads=False).aggregate([([], "count_all"), *sums])
        part = self._parts.setdefault(partition, {})
        for row in found.to_pylist():
            category = "" if row["category"].isspace() else row["category"]
            key = category, row["fold"], row.get("class", NUMBERS)
            _put(part, key, row["count_all"], row.get("label_sum", 0.0))
            self._saw(key)

    @property
    def _is_beyond(self) -> bool:
        return len(self._categories) > self._most or len(self._found) > MOST_CLASSES

    def _saw(self, key: Key) -> None:
        if key[0]:  # what is missing is no category, as for `sketches.Values`
            self._categories.add(key[0])
        self._found.add(key[2])

    def merge(self, other: LabelSums) -> None:
        """Take in the sums of other rows."""
        if self._is_beyond:
            return
        self._whole, self._parts = self._sums(), {}
        for key, (rows, total) in other._sums().items():
            _put(self._whole, key, rows, total)
            self._saw(key)

    def found(self) -> Iterable[tuple[Key, int, float]]:
        """Yield each category, fold and class with its rows, and the sum of their labels where these are numbers."""
        return ((key, rows, total) for key, (rows, total) in self._sums().items())

    def settle(self, found: Iterable[tuple[Key, int, float]]) -> None:
        """Begin with these sums."""
        self._whole = {key: (rows, total) for key, rows, total in found}
        for key in self._whole:
            self._saw(key)

    def _sums(self) -> dict[Key, tuple[int, float]]:
        whole = dict(self._whole)
        for partition in sorted(self._parts):
            for key, (rows, total) in self._parts[partition].items():
                _put(whole, key, rows, total)
        return whole


def _put(sums: dict[Key, tuple[int, float]], key: Key, rows: int, total: float) -> None:
    before = sums.get(key, (0, 0.0))
    sums[key] = before[0] + rows, before[1] + total
