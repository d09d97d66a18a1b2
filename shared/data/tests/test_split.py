import hashlib

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.errors import BatchInvalid
from headrace_data.spec import Split
from headrace_data.split import assign_splits
from hypothesis import given, settings
from hypothesis import strategies as st

RULE = Split(train=0.7, validation=0.2, test=0.1, salt="pepper")
KEYS = st.lists(st.text(max_size=5), max_size=30) | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30)


def bucket(key: object, salt: str) -> int:
    digest = hashlib.blake2b(f"{salt}|{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 10_000


@settings(deadline=None)
@given(KEYS)
def test_the_hash_decides_and_nothing_else(keys: list[str] | list[int]) -> None:
    array = pa.array(keys, pa.string() if keys and isinstance(keys[0], str) else pa.int64())
    ends = [bucket(key, "pepper") for key in keys]

    splits = assign_splits(array, RULE)

    assert splits.dtype == np.int8
    assert splits.tolist() == [0 if end < 7000 else 1 if end < 9000 else 2 for end in ends]
    assert assign_splits(array[::-1], RULE).tolist() == splits.tolist()[::-1]


def test_the_parts_are_as_large_as_asked_for() -> None:
    splits = assign_splits(pa.array(range(20_000)), RULE)

    assert np.bincount(splits) / 20_000 == pytest.approx([0.7, 0.2, 0.1], abs=0.01)


def test_the_salt_divides_anew() -> None:
    keys = pa.array(range(1000))

    assert (assign_splits(keys, RULE) != assign_splits(keys, RULE.model_copy(update={"salt": "salt"}))).any()


def test_integers_and_their_texts_are_one_key() -> None:
    keys = pa.array(range(-50, 50))

    assert assign_splits(keys, RULE).tolist() == assign_splits(keys.cast(pa.string()), RULE).tolist()


def test_a_row_without_a_key_is_refused() -> None:
    with pytest.raises(BatchInvalid, match="got 1 nulls"):
        assign_splits(pa.array(["a", None]), RULE)


def test_sides_never_change() -> None:
    keys = pa.array(["alice", "bob", "carol", "dave", "erin", "frank"])

    assert assign_splits(keys, Split()).tolist() == [0, 2, 0, 1, 0, 0]
