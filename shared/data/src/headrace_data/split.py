"""Which split a row belongs to: a keyed hash of one value, so that a row never changes sides.

All rows with the same value, such as one writer's, land in the same split, in whichever dataset they are.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.errors import BatchInvalid
from headrace_data.spec import Split

SplitName = Literal["train", "validation", "test"]
"""Name of a split."""
SPLITS: Final[tuple[SplitName, ...]] = ("train", "validation", "test")
"""The splits, in the order of their numbers."""
BUCKETS: Final = 10_000
"""Resolution of the fractions."""


def assign_splits(keys: pa.Array, rule: Split) -> npt.NDArray[np.int8]:
    """Return the split of each row: 0 for train, 1 for validation, 2 for test.

    The bucket of a key is ``blake2b(salt | key) mod 10000``: `digests` has the rest. Raises BatchInvalid when a key is
    null.
    """
    ends = [round(rule.train * BUCKETS), round((rule.train + rule.validation) * BUCKETS)]
    sides = np.searchsorted(ends, digests(keys, rule.salt) % BUCKETS, side="right")
    return sides.astype(np.int8)


def digests(keys: pa.Array, salt: str) -> npt.NDArray[np.uint64]:
    """Return 64 bits, big-endian, of ``blake2b(salt | key)`` of each row, where a key is its UTF-8 text.

    `keys` holds integers or strings; an integer counts as its decimal text. Raises BatchInvalid when a key is null.
    """
    if keys.null_count:
        raise BatchInvalid(f"expected a value to group by in every row, got {keys.null_count} nulls")
    encoded = keys.dictionary_encode()
    salted = f"{salt}|".encode()
    texts = encoded.dictionary.cast(pa.string()).cast(pa.binary()).to_pylist()
    hashes = b"".join([blake2b(salted + text, digest_size=8).digest() for text in texts])
    found: npt.NDArray[np.uint64] = np.frombuffer(hashes, ">u8")[encoded.indices.to_numpy()].astype(np.uint64)
    return found
