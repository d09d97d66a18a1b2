"""The chain of a log: each entry carries the root of the Merkle tree over all entries before it.

The leaves are the entries' bytes as they lie in the log, so the chain does not depend on how they are written today.
Whoever changes an entry, takes one out or puts one in gives every later entry a root that is not its own any more. An
entry of before the log was chained carries none, and is a leaf all the same: the first root covers it.
"""

from __future__ import annotations

from typing import NamedTuple

from headrace_data.identity import MerkleTree


class Claim(NamedTuple):
    """What an entry says of those before it: how many they are, and their root (32 bytes, none: it says nothing)."""

    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.size} entries before it with root {self.root.hex() or 'none'}"


class Break(NamedTuple):
    """An entry whose claim is not what lies before it."""

    offset: int
    expected: Claim
    """What lies before it."""
    got: Claim
    """What it says."""


class LogChain:
    """Checks a log, entry by entry, and knows its tree.

    Breaks up to the offset `accepted` are none: an operator has looked at them, and goes on.
    """

    def __init__(self, accepted: int = -1) -> None:
        self._accepted = accepted
        self.tree = MerkleTree()
        self.begins: int | None = None
        """Offset of the first entry that carries a root; None while none does."""
        self.unchained = 0
        """Entries after that one which carry none: an older registry wrote them."""
        self.first_break: Break | None = None
        """The first break after what is accepted; None while there is none."""
        self.last_broken = -1
        """Offset of the last entry whose claim was wrong, accepted or not; -1 when none was."""

    def take(self, offset: int, data: bytes, claim: Claim) -> None:
        """Check what the next entry says of those before it, and add its bytes."""
        if claim.root:
            self.begins = offset if self.begins is None else self.begins
            expected = Claim(self.tree.leaves, self.tree.root())
            if claim != expected:
                self.last_broken = offset
                if self.first_break is None and offset > self._accepted:
                    self.first_break = Break(offset, expected, claim)
        elif self.begins is not None:
            self.unchained += 1
        self.tree.append(data)
