"""Which split a row belongs to: a keyed hash of one value, so that a row never changes sides.

All rows with the same value, such as one writer's, land in the same split, in whichever dataset they are.
"""

from __future__ import annotations

import hashlib
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

    `keys` holds integers or strings; an integer counts as its decimal text. The bucket of a key is
    ``blake2b(salt | key) mod 10000``, with a 64-bit big-endian digest of the UTF-8 text. Raises BatchInvalid when a
    key is null.
    """
    if keys.null_count:
        raise BatchInvalid(f"expected a value to split by in every row, got {keys.null_count} nulls")
    encoded = keys.dictionary_encode()
    salted = hashlib.blake2b(f"{rule.salt}|".encode(), digest_size=8)
    buckets = np.array([_bucket(salted.copy(), key) for key in encoded.dictionary.to_pylist()], dtype=np.int64)
    ends = [round(rule.train * BUCKETS), round((rule.train + rule.validation) * BUCKETS)]
    of_key = np.searchsorted(ends, buckets, side="right").astype(np.int8)
    splits: npt.NDArray[np.int8] = of_key[encoded.indices.to_numpy()]
    return splits


def _bucket(salted: hashlib.blake2b, key: int | str) -> int:
    salted.update(str(key).encode())
    return int.from_bytes(salted.digest(), "big") % BUCKETS
