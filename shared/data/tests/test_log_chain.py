"""The chain of a log, and audit paths through it."""

from __future__ import annotations

from hashlib import sha256

import pytest
from headrace_data.audit import audit_path, root_by
from headrace_data.identity import LEAF, MerkleTree
from headrace_data.log_chain import Claim, LogChain

ENTRIES = [bytes([number]) * 3 for number in range(9)]


def claims(entries: list[bytes], begins: int = 0) -> list[Claim]:
    """What each entry says, from one of them on."""
    tree, said = MerkleTree(), []
    for place, entry in enumerate(entries):
        said.append(Claim(tree.leaves, tree.root()) if place >= begins else Claim(0, b""))
        tree.append(entry)
    return said


def walked(entries: list[bytes], said: list[Claim], accepted: int = -1) -> LogChain:
    chain = LogChain(accepted)
    for place, (entry, claim) in enumerate(zip(entries, said, strict=True)):
        chain.take(10 * place, entry, claim)
    return chain


@pytest.mark.parametrize("begins", [0, 3, 9])
def test_a_log_is_whole_wherever_its_chain_begins(begins: int) -> None:
    chain = walked(ENTRIES, claims(ENTRIES, begins))
    assert (chain.begins, chain.first_break, chain.last_broken) == (10 * begins if begins < 9 else None, None, -1)
    assert chain.tree.root() == walked(ENTRIES, claims(ENTRIES)).tree.root()


def test_what_was_changed_taken_out_or_put_in_breaks_every_root_after_it() -> None:
    said = claims(ENTRIES, 3)
    # Also where the chain had not begun: the first root covers it.
    for place in range(8):
        first = 10 * max(place + 1, 3)
        changed = [*ENTRIES[:place], b"changed", *ENTRIES[place + 1 :]]
        assert broken(walked(changed, said)) == (first, 80)
        without = walked(ENTRIES[:place] + ENTRIES[place + 1 :], said[:place] + said[place + 1 :])
        assert broken(without) == (max(10 * place, 20), 70)
        more = walked([*ENTRIES[:place], b"more", *ENTRIES[place:]], [*said[:place], Claim(0, b""), *said[place:]])
        assert broken(more) == (max(10 * place + 10, 40), 90)


def broken(chain: LogChain) -> tuple[int, int]:
    assert chain.first_break is not None
    return chain.first_break.offset, chain.last_broken


def test_a_break_is_accepted_up_to_its_end_and_no_further() -> None:
    changed = [b"changed", *ENTRIES[1:5]]
    said = claims(ENTRIES)[:5]
    assert broken(walked(changed, said)) == (10, 40)
    assert broken(walked(changed, said, accepted=30)) == (40, 40)
    chain = walked(changed, said, accepted=40)
    assert (chain.first_break, chain.last_broken) == (None, 40)
    tree = chain.tree.copy()
    chain.take(50, b"after", Claim(5, tree.root()))
    chain.take(60, b"wrong", Claim(6, b"\0" * 32))
    assert broken(chain) == (60, 60)
    assert tree.leaves == 5


def test_an_audit_path_leads_to_the_root_of_its_own_tree_alone() -> None:
    for size in range(1, 20):
        tree, data = MerkleTree(), [bytes([number]) for number in range(size)]
        for each in data:
            tree.append(each)
        leaves = [sha256(LEAF + each).digest() for each in data]
        for place in range(size):
            path = audit_path(leaves, place)
            assert root_by(leaves[place], place, size, path) == tree.root()
            assert len(path) <= (size - 1).bit_length()
            assert root_by(leaves[place], place, size, [*path, b"more"]) is None
            if path:
                assert root_by(leaves[place], place, size, path[:-1]) is None
                assert root_by(leaves[place], place ^ 1, size, path) != tree.root()
