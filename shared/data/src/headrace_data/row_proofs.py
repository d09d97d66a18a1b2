"""Proofs that rows are in a segment: audit paths through the Merkle trees that its id rests on (see `identity`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

from headrace_data.audit import audit_path
from headrace_data.batches import OFFSET, lineage
from headrace_data.errors import DatasetInvalid
from headrace_data.identity import LEAF, MerkleTree, id_of
from headrace_data.manifest import Part, SegmentManifest
from headrace_data.parts import BlobStore, read_columns, read_part
from headrace_data.row_bytes import rows_as_bytes
from headrace_data.spec import Field

LEAVES = "_leaf"
"""Column of a part with erased rows: the leaf digest of each of these; null of rows that stand."""
Wanted = Collection[tuple[int, int]]
"""Partitions and offsets of rows."""
_Row = tuple[int, int, bytes | None, bytes]
"""Offset, index and bytes of a row, None of one that was erased, and its hash as a leaf."""


@dataclass(frozen=True, slots=True)
class RowProof:
    """One row, and the way from it to the root of its partition."""

    partition: int
    """Number of the partition in the segment: a backfill's rows have one of their own."""
    offset: int
    index: int
    """Position in the producer's message."""
    leaf: int
    """Place in the partition's tree, from 0."""
    row: bytes | None
    """The row's bytes, as `row_bytes` has them; None of a row that was erased."""
    digest: bytes
    """Its hash as a leaf."""
    path: tuple[bytes, ...]
    """The hashes beside the way, the lowest first."""


class PartitionRoot(NamedTuple):
    """The tree of one partition of a segment."""

    partition: int
    rows: int
    root: bytes


class SegmentProof(NamedTuple):
    """What a segment's id is made of, and the rows that are proved to be in it."""

    manifest: SegmentManifest
    partitions: tuple[PartitionRoot, ...]
    rows: tuple[RowProof, ...]


def prove_rows(
    segment: SegmentManifest,
    fields: Sequence[Field],
    store: BlobStore,
    wanted: Wanted,
    keep_alive: Callable[[], None] = lambda: None,
) -> SegmentProof:
    """Return the proof of those of these rows that a segment holds. All its parts are read.

    `fields` are those that it was cut under. Raises DatasetInvalid when the parts are not what its id says.
    """
    partitions: list[PartitionRoot] = []
    proofs: list[RowProof] = []
    for partition in sorted({part.partition for part in segment.parts}):
        leaves: list[bytes] = []
        found: list[tuple[int, int, int, bytes | None]] = []
        for offset, index, row, leaf in _rows(segment, partition, fields, store, keep_alive):
            if (partition, offset) in wanted:
                found.append((offset, index, len(leaves), row))
            leaves.append(leaf)
        tree = MerkleTree()
        tree.extend(leaves)
        partitions.append(PartitionRoot(partition, len(leaves), tree.root()))
        for offset, index, at, row in found:
            path = tuple(audit_path(leaves, at))
            proofs.append(RowProof(partition, offset, index, at, row, leaves[at], path))
    _require_root(segment, partitions)
    return SegmentProof(segment, tuple(partitions), tuple(proofs))


def _rows(
    segment: SegmentManifest,
    partition: int,
    fields: Sequence[Field],
    store: BlobStore,
    keep_alive: Callable[[], None],
) -> Iterator[_Row]:
    """Yield the rows of a partition, in order."""
    parts = [part for part in segment.parts if part.partition == partition]
    # In datasets of before there were segments, the parts of the three splits reach over each other.
    apart = all(one.last_offset < other.first_offset for one, other in pairwise(parts))
    rows: list[_Row] = []
    for part in parts:
        keep_alive()
        rows += _rows_of(part, fields, store)
        if apart:
            yield from rows
            rows.clear()
    yield from sorted(rows, key=lambda row: row[:2])


def _rows_of(part: Part, fields: Sequence[Field], store: BlobStore) -> Iterator[_Row]:
    batch, kept = read_part(part, fields, store), read_columns(part, [OFFSET, LEAVES], store)
    erased = kept.column(LEAVES).to_pylist() if LEAVES in kept.schema.names else [None] * len(batch)
    _, offsets, indexes = lineage(batch)
    rows = zip(offsets.tolist(), indexes.tolist(), rows_as_bytes(batch, fields), erased, strict=True)
    for offset, index, row, leaf in rows:
        yield offset, index, None if leaf else row, leaf or sha256(LEAF + row).digest()


def _require_root(segment: SegmentManifest, partitions: Sequence[PartitionRoot]) -> None:
    top = MerkleTree()
    for each in partitions:
        top.append(each.root)
    rows = sum(each.rows for each in partitions)
    found = id_of(rows, top.root(), segment.schema_digest, segment.prepare_digest, segment.split_digest)
    if found != segment.segment_id:
        raise DatasetInvalid(
            f"expected rows whose segment is {segment.segment_id}, got some of {found}: its parts are not what was cut"
        )
