"""Leaks: rows that a dataset teaches, and measures by all the same, so that measures promise too much.

A training row leaks when a row of validation or test has the same features and label, whatever key it has, or when its
texts nearly repeat that row's, as `near` has it. Which rows these are is counted, and nothing is left out for it:
`prepare.clean.nearDuplicates` does that for texts, and a `group` keeps what belongs together on one side.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import lineage
from headrace_data.near import CONTAMINATED, MOST_ROWS, NearRows
from headrace_data.row_bytes import rows_as_bytes
from headrace_data.spec import NearDuplicates, Pipeline

MOST_HELD: Final = 2**21
"""Rows up to which the count is exact; beyond, it is an estimate from as many (44 MB)."""
MOST_EXAMPLES: Final = 5

Mask = npt.NDArray[np.bool_]
_Columns = tuple[npt.NDArray[np.uint64], Mask, npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""Hashes of rows, whether they are held out, and their producers' partitions and offsets."""


class Leak(NamedTuple):
    """A training row that leaks: where it came from, and where its twin did; None of a text that nearly repeats one."""

    partition: int
    offset: int
    twin: tuple[int, int] | None = None
    """Partition and offset."""


class Leaks(NamedTuple):
    """The training rows that leak."""

    exact: int = 0
    """Those with the features and the label of a row of validation or test; an estimate above `MOST_HELD` rows."""
    near: int = 0
    """Further ones whose texts nearly repeat such a row's."""
    examples: tuple[Leak, ...] = ()
    """The first of both."""


class LeakRows:
    """The rows of a dataset as hashes: 21 bytes for each, and 272 more where it reads language, up to 2,097,152."""

    def __init__(self, pipeline: Pipeline, most: int = MOST_HELD) -> None:
        """Compare rows by features and label; those of `pipeline` that are read as language by their pieces, too."""
        self._fields = [field for field in pipeline.stream.fields if field.role in ("feature", "label")]
        self.names = tuple(field.name for field in self._fields)
        """The fields that are looked at."""
        texts = tuple(
            field.name
            for field in pipeline.stream.features
            if field.type == "string" and pipeline.transform(field.name).kind_of(field.type) == "text"
        )
        self._near = NearRows(NearDuplicates(fields=texts, of="heldOut")) if texts else None
        self._places: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]] = []
        """Where the rows came from whose texts are compared."""
        self._most, self._shift, self._rows, self._held = most, 0, 0, list[_Columns]()

    def add(self, batch: pa.RecordBatch, held_out: Mask) -> None:
        """Take in rows in their order, and which of them are of validation or test."""
        partitions, offsets, _ = lineage(batch)
        hashed = (blake2b(row, digest_size=8).digest() for row in rows_as_bytes(batch, self._fields))
        hashes = np.frombuffer(b"".join(hashed), "<u8")
        self._held.append(self._sampled((hashes, held_out, partitions, offsets)))
        while sum(len(each[0]) for each in self._held) > self._most:
            self._shift += 1
            self._held = [self._sampled(each) for each in self._held]
        self._rows += len(batch)
        if self._near is not None and self._rows > MOST_ROWS:
            self._near, self._places = None, []
        if self._near is not None:
            self._near.add(batch, held_out)
            self._places.append((partitions, offsets))

    def left_out(self) -> Mapping[str, Mask]:
        """Return that nothing is left out."""
        return {}

    def found(self) -> Leaks:
        """Return which training rows leak."""
        if not self._rows:
            return Leaks()
        exact, near = self._twins(), self._near_twins()
        known = {(leak.partition, leak.offset) for leak in exact}
        further = [leak for leak in near if (leak.partition, leak.offset) not in known]
        examples = (*exact[:MOST_EXAMPLES], *further)[:MOST_EXAMPLES]
        return Leaks(len(exact) << self._shift, len(further), examples)

    def _twins(self) -> list[Leak]:
        hashes, held_out, partitions, offsets = map(np.concatenate, zip(*self._held, strict=True))
        # Of equal rows those that are held out come first: the first one tells whether there is any.
        order = np.lexsort((~held_out, hashes))
        begins = np.ones(len(order), dtype=np.bool_)
        begins[1:] = hashes[order][1:] != hashes[order][:-1]
        first = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
        leaks = ~held_out[order] & held_out[first]
        pairs = sorted(zip(order[leaks].tolist(), first[leaks].tolist(), strict=True))
        return [
            Leak(int(partitions[row]), int(offsets[row]), (int(partitions[twin]), int(offsets[twin])))
            for row, twin in pairs
        ]

    def _near_twins(self) -> list[Leak]:
        if self._near is None:
            return []
        partitions, offsets = map(np.concatenate, zip(*self._places, strict=True))
        rows = np.flatnonzero(self._near.left_out()[CONTAMINATED])
        return [Leak(int(partitions[row]), int(offsets[row])) for row in rows]

    def _sampled(self, columns: _Columns) -> _Columns:
        """Return the rows whose hashes begin with zeros: one of 2 ** shift, with all that are equal to it."""
        if not self._shift:
            return columns
        kept = columns[0] >> np.uint64(64 - self._shift) == 0
        hashes, held_out, partitions, offsets = columns
        return hashes[kept], held_out[kept], partitions[kept], offsets[kept]
