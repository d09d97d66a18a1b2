"""The content id of a dataset: a Merkle root over its rows.

Per producer partition the rows form one tree as in RFC 6962 §2.1 (leaf ``SHA-256(0x00 | row)``, node
``SHA-256(0x01 | left | right)``), in the order of (offset, index). The trees' roots, in the order of partitions, are
the leaves of one more. So the root depends on the rows and their order, and not on how they were batched or mixed.
Where a row stood in the log is not part of it: the same rows in the same order have the same id wherever they are from.

The bytes of a row: first every number field in schema order, as one byte (0 null, 1 present) and its elements in little
endian, zeros for null; then every string field in schema order, as one byte and, when present, the length of its UTF-8
bytes as 32 bits in little endian, and those bytes. With the schema, whose digest goes into the id, two rows with equal
bytes are equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import elements, lineage
from headrace_data.canonical import canonical, sha256_digest
from headrace_data.errors import DatasetInvalid
from headrace_data.spec import Field, Pipeline, Stream

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_FORMAT: Final = "headrace.dataset.v1"


class MerkleTree:
    """A Merkle tree that grows by one leaf at a time and holds one hash per level."""

    def __init__(self) -> None:
        self.leaves = 0
        self._peaks: list[bytes] = []
        """Roots of the perfect subtrees, from the largest to the smallest: one per set bit of `leaves`."""

    def append(self, data: bytes) -> None:
        """Add a leaf."""
        node = hashlib.sha256(_LEAF + data).digest()
        self.leaves += 1
        # As many subtrees of equal size meet as the count of leaves has zeros at its end.
        for _ in range((self.leaves & -self.leaves).bit_length() - 1):
            node = hashlib.sha256(_NODE + self._peaks.pop() + node).digest()
        self._peaks.append(node)

    def root(self) -> bytes:
        """Return the root: 32 bytes; that of the empty tree is the hash of nothing."""
        if not self._peaks:
            return hashlib.sha256().digest()
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = hashlib.sha256(_NODE + peak + node).digest()
        return node


class RowsIdentity:
    """Accumulates the rows of a dataset, batch by batch."""

    def __init__(self, stream: Stream) -> None:
        self._numbers = [field for field in stream.fields if field.type != "string"]
        self._texts = [field for field in stream.fields if field.type == "string"]
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
        for partition, row in zip(partitions.tolist(), self._rows(batch), strict=True):
            self._trees.setdefault(partition, MerkleTree()).append(row)
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
            places = list(zip(offsets[mine].tolist(), indexes[mine].tolist(), strict=True))
            before = self._last.get(partition)
            for previous, place in zip([before, *places[:-1]], places, strict=True):
                if previous is not None and place <= previous:
                    raise DatasetInvalid(
                        f"expected rows of partition {partition} after (offset, index) {previous}, got {place}"
                    )
            last[partition] = places[-1]
        return last

    def _rows(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        """Yield the canonical bytes of each row."""
        parts = [part for field in self._numbers for part in _number_bytes(batch, field)]
        fixed = np.concatenate(parts, axis=1) if parts else np.empty((len(batch), 0), dtype=np.uint8)
        width, data = fixed.shape[1], fixed.tobytes()
        texts = [[_text_bytes(text) for text in batch.column(field.name).to_pylist()] for field in self._texts]
        for row in range(len(batch)):
            yield b"".join((data[row * width : (row + 1) * width], *(column[row] for column in texts)))


def dataset_id(rows: RowsIdentity, pipeline: Pipeline) -> str:
    """Return the id of a dataset of these rows: ``sha256:`` and 64 hexadecimal digits.

    It covers the rows and the digests of the schema, the preparation and the split rule.
    """
    parts = {
        "format": _FORMAT,
        "rows": rows.rows,
        "root": rows.root().hex(),
        "schema": pipeline.schema_digest,
        "prepare": pipeline.prepare_digest,
        "split": pipeline.split_digest,
    }
    return sha256_digest(canonical(parts))


def _number_bytes(batch: pa.RecordBatch, field: Field) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return a field's presence bytes, shape [rows, 1], and element bytes, shape [rows, size * element size]."""
    present = batch.column(field.name).is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)[:, np.newaxis]
    values = elements(batch, field).astype(field.dtype.newbyteorder("<"))
    values[present[:, 0] == 0] = 0
    return present, np.ascontiguousarray(values).view(np.uint8).reshape(len(batch), field.size * field.dtype.itemsize)


def _text_bytes(text: str | None) -> bytes:
    if text is None:
        return b"\x00"
    data = text.encode()
    return b"\x01" + len(data).to_bytes(4, "little") + data
