"""The content id of a dataset: a Merkle root over its rows.

Per producer partition the rows form one tree as in RFC 6962 §2.1 (leaf ``SHA-256(0x00 | row)``, node
``SHA-256(0x01 | left | right)``), in the order of (offset, index). The trees' roots, in the order of partitions, are
the leaves of one more. So the root depends on the rows and their order, and not on how they were batched or mixed.
Where a row stood in the log is not part of it: the same rows in the same order have the same id wherever they are from.
`row_bytes` says what the bytes of a row are.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import compress
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import lineage
from headrace_data.canonical import canonical, sha256_digest
from headrace_data.errors import DatasetInvalid
from headrace_data.row_bytes import rows_as_bytes
from headrace_data.spec import Pipeline, Stream

LEAF: Final = b"\x00"
NODE: Final = b"\x01"
_FORMAT: Final = "headrace.dataset.v1"


class MerkleTree:
    """A Merkle tree that grows by leaves and holds one hash per level."""

    def __init__(self) -> None:
        self.leaves = 0
        self._peaks: list[bytes] = []
        """The root of the perfect subtree of 2^n leaves that waits for its sibling, by n; empty where none does."""

    def copy(self) -> MerkleTree:
        """Return a tree that grows on without this one."""
        other = MerkleTree()
        other.leaves, other._peaks = self.leaves, list(self._peaks)
        return other

    def append(self, data: bytes) -> None:
        """Add a leaf."""
        self.extend([sha256(LEAF + data).digest()])

    def extend(self, hashes: Sequence[bytes]) -> None:
        """Add leaves by their hashes, level by level: a call for each leaf would cost more than the hashes."""
        self.leaves += len(hashes)
        level, nodes = 0, list(hashes)
        while nodes:
            if level == len(self._peaks):
                self._peaks.append(b"")
            if self._peaks[level]:
                nodes.insert(0, self._peaks[level])
            self._peaks[level] = nodes.pop() if len(nodes) % 2 else b""
            halves = iter(nodes)
            nodes = [sha256(NODE + left + right).digest() for left, right in zip(halves, halves, strict=True)]
            level += 1

    def root(self) -> bytes:
        """Return the root: 32 bytes; that of the empty tree is the hash of nothing."""
        if not self.leaves:
            return sha256().digest()
        node, *larger = (peak for peak in self._peaks if peak)
        for peak in larger:
            node = sha256(NODE + peak + node).digest()
        return node


class RowsIdentity:
    """Accumulates the rows of a dataset, batch by batch."""

    def __init__(self, stream: Stream) -> None:
        self._fields = stream.fields
        self._trees: dict[int, MerkleTree] = {}
        self._last: dict[int, tuple[int, int]] = {}

    @property
    def rows(self) -> int:
        """Number of rows added."""
        return sum(tree.leaves for tree in self._trees.values())

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch.

        Rows of one producer partition come in the order of (offset, index); rows of different partitions may mix.
        Raises DatasetInvalid when they do not, and adds nothing then.
        """
        partitions, offsets, indexes = lineage(batch)
        last = self._check_order(partitions, offsets, indexes)
        hashes = [sha256(row).digest() for row in rows_as_bytes(batch, self._fields, LEAF)]
        for partition in last:
            mine = hashes if len(last) == 1 else list(compress(hashes, (partitions == partition).tolist()))
            self._trees.setdefault(partition, MerkleTree()).extend(mine)
        self._last |= last

    def root(self) -> bytes:
        """Return the root of all rows so far: 32 bytes."""
        top = MerkleTree()
        for partition in sorted(self._trees):
            top.append(self._trees[partition].root())
        return top.root()

    def _check_order(
        self, partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], indexes: npt.NDArray[np.int32]
    ) -> dict[int, tuple[int, int]]:
        last: dict[int, tuple[int, int]] = {}
        for partition in np.unique(partitions).tolist():
            mine = partitions == partition
            places = np.stack([offsets[mine], indexes[mine]], axis=1)
            if partition in self._last:
                places = np.concatenate([[self._last[partition]], places])
            offset, index = np.diff(places, axis=0).T
            if len(wrong := np.flatnonzero((offset < 0) | ((offset == 0) & (index <= 0)))):
                previous, place = (tuple(each) for each in places[wrong[0] : wrong[0] + 2].tolist())
                raise DatasetInvalid(
                    f"expected rows of partition {partition} after (offset, index) {previous}, got {place}"
                )
            last[partition] = tuple(places[-1].tolist())
        return last


def dataset_id(rows: RowsIdentity, pipeline: Pipeline) -> str:
    """Return the id of a dataset of these rows: ``sha256:`` and 64 hexadecimal digits.

    It covers the rows and the digests of the schema, the preparation and the split rule.
    """
    digests = (pipeline.schema_digest, pipeline.prepare_digest, pipeline.split_digest)
    return id_of(rows.rows, rows.root(), *digests)


def id_of(rows: int, root: bytes, schema: str, prepare: str, split: str) -> str:
    """Return the id of so many rows with this root, under digests of schema, preparation and split rule."""
    parts = {
        "format": _FORMAT,
        "rows": rows,
        "root": root.hex(),
        "schema": schema,
        "prepare": prepare,
        "split": split,
    }
    return sha256_digest(canonical(parts))
