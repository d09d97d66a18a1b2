from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.key_digests import Digests, key_digests
from headrace_data.key_ring import KeyRing, entries
from headrace_data.seen_keys import SeenKeys
from hypothesis import given
from hypothesis import strategies as st

Key = int | str


def digests(keys: Sequence[Key]) -> Digests:
    kind = pa.int64() if keys and isinstance(keys[0], int) else pa.string()
    return key_digests(pa.array(keys, kind))


def plainly_accepted(keys: Sequence[Key], window: int) -> list[bool]:
    """As a set beside a queue says it."""
    seen: set[Key] = set()
    order: deque[Key] = deque()
    accepted = []
    for key in keys:
        accepted.append(key not in seen)
        if key not in seen:
            seen.add(key)
            order.append(key)
            if len(order) > window:
                seen.remove(order.popleft())
    return accepted


TEXTS = st.one_of(st.sampled_from("abcdef"), st.sampled_from([c * n for c in "ab" for n in (63, 64, 65, 66, 300)]))
NUMBERS = st.integers(-4, 4) | st.sampled_from([2**63 - 1, -(2**63), 2**32, -(2**32)])
KEYS = st.lists(TEXTS, max_size=60) | st.lists(NUMBERS, max_size=60)


@given(KEYS, st.integers(1, 12), st.lists(st.integers(0, 60), max_size=6), st.data())
def test_exactly_the_keys_of_the_window_are_seen(
    keys: list[Key], window: int, cuts: list[int], data: st.DataObject
) -> None:
    seen, accepted = SeenKeys(window), list[bool]()
    for start, end in pairwise(sorted({0, len(keys), *(cut for cut in cuts if cut < len(keys))})):
        part = digests(keys[start:end])
        if data.draw(st.booleans(), label="tried before in a transaction that was aborted"):
            seen.accept(part)
            seen.rollback()
        accepted += seen.accept(part).tolist()
        what = data.draw(st.sampled_from(["commit", "restore"]), label="then")
        seen.commit()
        if what == "restore":
            before = [key for key, new in zip(keys, accepted, strict=False) if new]
            more = data.draw(st.integers(0, 5), label="older keys that are read back with the others")
            seen = SeenKeys(window)
            seen.remember(digests(before[max(0, len(before) - window - more) :]))
        assert len(seen) == min(window, sum(accepted))
    assert accepted == plainly_accepted(keys, window)


@pytest.mark.parametrize("window", [50, 3_000, 20_000])
def test_many_keys_are_seen_exactly_as_by_a_set(window: int) -> None:
    dice = np.random.default_rng(window)
    numbers = dice.integers(0, int(window * 1.3), 60_000)
    for keys in (numbers.tolist(), [f"record-{number}" for number in numbers]):
        seen, accepted = SeenKeys(window), list[bool]()
        for number, start in enumerate(range(0, len(keys), 700)):
            accepted += seen.accept(digests(keys[start : start + 700])).tolist()
            if number % 3 == 0:
                seen.commit()
        assert accepted == plainly_accepted(keys, window)
        assert 0.1 < np.mean(accepted) < 0.95


def test_what_was_taken_back_is_new_again_and_pushed_nothing_out() -> None:
    seen = SeenKeys(3)
    assert seen.accept(digests(["a", "b", "c"])).all()
    seen.commit()
    assert seen.accept(digests(["d", "e"])).all()
    assert seen.accept(digests(["d", "a"])).tolist() == [False, True]
    seen.rollback()
    assert seen.accept(digests(["a", "c", "d"])).tolist() == [False, False, True]


def test_keys_are_remembered_as_they_came_even_if_a_smaller_window_let_one_through_twice() -> None:
    seen = SeenKeys(3)
    seen.remember(digests(["a", "b", "a", "c", "d"]))
    assert seen.accept(digests(["a", "b"])).tolist() == [False, True]


def test_a_key_takes_few_bytes_however_long_it_is() -> None:
    for kind in ("{}", "record number {}", "{}" + "x" * 100):
        seen = SeenKeys(100_000)
        for start in range(0, 250_000, 5_000):
            seen.accept(digests([kind.format(number) for number in range(start, start + 5_000)]))
            seen.commit()
        assert len(seen) == 100_000
        assert seen.size_bytes <= 2_500_000
    assert SeenKeys(10_000_000).size_bytes == 0


def test_windows_have_at_least_one_key() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SeenKeys(0)


def test_different_keys_have_different_digests() -> None:
    texts = [
        *("", "\0", "\0\0", "a", "a\0", "1", "-1", "ä", "ae"),
        *(c * n for c in "xy" for n in range(1, 200)),
        *(str(n) for n in range(2_000)),
    ]
    numbers = [*range(-1_000, 1_000), *(2**n for n in range(63)), *(-(2**n) for n in range(64))]
    different = len(set(texts)) + len(set(numbers))
    assert len({tuple(row) for row in [*digests(texts).tolist(), *digests(numbers).tolist()]}) == different


@given(st.lists(st.text(max_size=80), max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_a_digest_is_of_the_key_alone(texts: list[str], start: int, count: int) -> None:
    whole = key_digests(pa.array(texts, pa.string()))
    part = key_digests(pa.array(texts, pa.string()).slice(start, count))
    assert part.tolist() == whole[start : start + count].tolist()
    assert [key_digests(pa.array([text])).tolist()[0] for text in texts] == whole.tolist()
    for kind in (pa.int8(), pa.uint8(), pa.int32(), pa.uint32()):
        assert key_digests(pa.array([1, 100], kind)).tolist() == digests([1, 100]).tolist()


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=12), st.integers(1, 20), st.data())
def test_a_ring_finds_the_last_of_each_key(parts: list[list[int]], most: int, data: st.DataObject) -> None:
    ring, all_keys, first = KeyRing(most, timed=True), list[int](), 0
    for part in parts:
        ring.append(digests(part), np.arange(len(all_keys), len(all_keys) + len(part)) * 10)
        all_keys += part
        first = max(first, len(all_keys) - most)
        if data.draw(st.integers(0, 3)) == 0:
            first = max(first, data.draw(st.integers(0, len(all_keys))))
            ring.forget_before(first)
        expected = [
            max((at for at in range(first, len(all_keys)) if all_keys[at] == key), default=-1) for key in range(31)
        ]
        wanted = digests(list(range(31)))
        rows, found = ring.find(wanted, entries(wanted))
        assert dict(zip(rows.tolist(), found.tolist(), strict=True)) == {
            key: at for key, at in enumerate(expected) if at >= 0
        }
        assert ring.clocks(found).tolist() == [10 * at for at in expected if at >= 0]
    with pytest.raises(ValueError, match="keeps clocks"):
        KeyRing(3).clocks(np.array([0]))
