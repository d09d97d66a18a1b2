"""Audit paths: what shows that a leaf is in a Merkle tree, as in RFC 6962 §2.1.1, and how that is checked."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from headrace_data.identity import NODE


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes beside the way from a leaf (by its hash, from 0) to the root, the lowest first."""
    path, nodes = [], list(leaves)
    while len(nodes) > 1:
        beside = index ^ 1
        if beside < len(nodes):
            path.append(nodes[beside])
        odd = [nodes.pop()] if len(nodes) % 2 else []
        halves = iter(nodes)
        nodes = [sha256(NODE + left + right).digest() for left, right in zip(halves, halves, strict=True)] + odd
        index //= 2
    return path


def root_by(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a path leads to from a leaf's hash in a tree of `size` leaves; None when it is none."""
    node, beside = leaf, list(path)
    while size > 1:
        if index ^ 1 < size:
            if not beside:
                return None
            other = beside.pop(0)
            node = sha256(NODE + (other + node if index % 2 else node + other)).digest()
        index, size = index // 2, (size + 1) // 2
    return node if size == 1 and index == 0 and not beside else None
