"""Proofs that rows are in a segment: audit paths through the Merkle trees that its id rests on (see `identity`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

from headrace_data.audit import audit_path
from headrace_data.batches import lineage
from headrace_data.errors import DatasetInvalid
from headrace_data.identity import LEAF, MerkleTree, id_of
from headrace_data.manifest import SegmentManifest
from headrace_data.parts import BlobStore, read_part
from headrace_data.row_bytes import rows_as_bytes
from headrace_data.spec import Field

Wanted = Collection[tuple[int, int]]
"""Partitions and offsets of rows."""


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
    row: bytes
    """The row's bytes, as `row_bytes` has them."""
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
        found: list[tuple[int, int, int, bytes]] = []
        for offset, index, row in _rows(segment, partition, fields, store, keep_alive):
            if (partition, offset) in wanted:
                found.append((offset, index, len(leaves), row))
            leaves.append(sha256(LEAF + row).digest())
        tree = MerkleTree()
        tree.extend(leaves)
        partitions.append(PartitionRoot(partition, len(leaves), tree.root()))
        for offset, index, leaf, row in found:
            proofs.append(RowProof(partition, offset, index, leaf, row, tuple(audit_path(leaves, leaf))))
    _require_root(segment, partitions)
    return SegmentProof(segment, tuple(partitions), tuple(proofs))


def _rows(
    segment: SegmentManifest,
    partition: int,
    fields: Sequence[Field],
    store: BlobStore,
    keep_alive: Callable[[], None],
) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, index and bytes of each row of a partition, in order."""
    parts = [part for part in segment.parts if part.partition == partition]
    # In datasets of before there were segments, the parts of the three splits reach over each other.
    apart = all(one.last_offset < other.first_offset for one, other in pairwise(parts))
    rows: list[tuple[int, int, bytes]] = []
    for part in parts:
        keep_alive()
        batch = read_part(part, fields, store)
        _, offsets, indexes = lineage(batch)
        rows += zip(offsets.tolist(), indexes.tolist(), rows_as_bytes(batch, fields), strict=True)
        if apart:
            yield from rows
            rows.clear()
    yield from sorted(rows)


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
