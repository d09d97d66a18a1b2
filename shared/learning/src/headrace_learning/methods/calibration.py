"""Rows of the training split that a method looks at: some of them, drawn at random, and read when one asks.

They show in which ranges a network's numbers lie. Rows of the test split must not: variants are judged on these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from headrace_data.dataset import DatasetReader

from headrace_learning.graphs import Array, Columns

_MOST_BYTES: Final = 64 * 2**20
"""What the rows may take in memory, about."""
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """Rows to calibrate on. None is read before one asks."""

    count: int
    """How many rows there are to draw from."""
    read: Callable[[Places], Columns]
    """Takes places of rows, in rising order; returns their raw features by name, [rows, *shape of the field]."""
    row_bytes: int = 1
    """What a row takes in memory."""
    seed: int = 0
    """Start of the random numbers that rows are drawn by."""

    def rows(self, most: int) -> Columns:
        """Return up to `most` rows, fewer where these are large. The same number and seed give the same rows."""
        if not self.count:
            return {}
        taken = min(most, max(_MOST_BYTES // self.row_bytes, 1), self.count)
        drawn = np.random.default_rng(self.seed).choice(self.count, taken, replace=False)
        return self.read(np.sort(drawn).astype(np.int64))

    def told(self, columns: Columns) -> dict[str, str]:
        """Say for the record on what a variant was calibrated."""
        rows = len(next(iter(columns.values())))
        return {"calibration": digest(columns), "calibration_rows": str(rows), "calibration_seed": str(self.seed)}


def _none(_places: Places) -> Columns:
    return {}


NO_ROWS: Final = Calibration(0, _none)


def of_dataset(reader: DatasetReader, seed: int) -> Calibration:
    """Return the rows of a dataset's training split."""
    return Calibration(
        reader.manifest.splits["train"].rows, lambda places: _read(reader, places), reader.row_bytes, seed
    )


def of_columns(columns: Columns, seed: int = 0) -> Calibration:
    """Return rows that are in memory already."""
    rows = len(next(iter(columns.values())))
    return Calibration(rows, lambda places: {name: each[places] for name, each in columns.items()}, seed=seed)


def batches(columns: Columns, size: int) -> Iterator[Columns]:
    """Yield the rows `size` at a time."""
    for start in range(0, len(next(iter(columns.values()))), size):
        yield {name: each[start : start + size] for name, each in columns.items()}


def digest(columns: Columns) -> str:
    """Return the digest of rows: of the names of their features, types, shapes and values."""
    found = hashlib.sha256()
    for name, values in sorted(columns.items()):
        head = [name, "text" if values.dtype == object else values.dtype.str, *values.shape]
        found.update(json.dumps(head, ensure_ascii=False).encode() + b"\n")
        found.update(_bytes(values))
    return f"sha256:{found.hexdigest()}"


def _bytes(values: Array) -> bytes:
    if values.dtype == object:
        return json.dumps(values.ravel().tolist(), ensure_ascii=False).encode()
    return np.ascontiguousarray(values).tobytes()


def _read(reader: DatasetReader, places: Places) -> Columns:
    """Read rows of the training split by their place in canonical order; of the others nothing is kept."""
    parts: list[dict[str, Any]] = []
    start = 0
    for group in (group for part in reader.parts("train") for group in part()):
        wanted = places[np.searchsorted(places, start) : np.searchsorted(places, start + len(group))] - start
        start += len(group)
        if len(wanted):
            parts.append(reader.arrays(group.take(wanted)))
        if start > places[-1]:
            break
    label = reader.manifest.label.name
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != label}
