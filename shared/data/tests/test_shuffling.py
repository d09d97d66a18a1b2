"""Rows in an order of their own, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from headrace_data.shuffling import Arrays, in_multiples, read_ahead, shuffled
from hypothesis import given
from hypothesis import strategies as st

Parts = list[Callable[[], Iterator[Arrays]]]


def parts_of(sizes: list[int], piece: int) -> Parts:
    """Return parts whose rows are numbered through: once as a column, and once as pairs."""

    def read(first: int, rows: int) -> Iterator[Arrays]:
        for start in range(first, first + rows, piece):
            numbers = np.arange(start, min(start + piece, first + rows))
            yield numbers, np.stack([numbers, -numbers], axis=1)

    firsts = np.cumsum([0, *sizes])
    return [partial(read, int(first), size) for first, size in zip(firsts, sizes, strict=False)]


def order(parts: Parts, capacity: int, seed: int) -> list[int]:
    pieces = list(shuffled(parts, capacity, seed))
    for numbers, pairs in pieces:
        assert np.array_equal(pairs, np.stack([numbers, -numbers], axis=1))
    return [number for numbers, _ in pieces for number in numbers.tolist()]


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 12), st.integers(1, 50), st.integers(0, 2**63 - 1))
def test_every_row_comes_once(sizes: list[int], piece: int, capacity: int, seed: int) -> None:
    found = order(parts_of(sizes, piece), capacity, seed)

    assert sorted(found) == list(range(sum(sizes)))
    assert found == order(parts_of(sizes, piece), capacity, seed)


def test_each_seed_has_an_order_of_its_own() -> None:
    parts = parts_of([50] * 8, 10)

    assert len({tuple(order(parts, 100, seed)) for seed in range(5)}) == 5


def test_rows_of_all_parts_are_mixed_and_neighbours_parted() -> None:
    parts, rows = parts_of([1000] * 50, 250), 50_000
    found = np.array(order(parts, 8_000, 1))

    # Batches of 100 hold rows of many parts, also at the end; in canonical order each would hold those of one.
    counts = [len(np.unique(batch // 1000)) for batch in found.reshape(-1, 100)]
    assert min(counts) >= 6
    assert np.mean(counts) > 15
    # No row tells which comes next.
    assert np.mean(np.diff(found) == 1) < 0.01
    assert abs(np.corrcoef(np.arange(rows), found)[0, 1]) < 0.3


def test_a_buffer_that_holds_everything_gives_a_permutation_of_everything() -> None:
    places = np.zeros((40, 40))
    for seed in range(400):
        places[np.arange(40), order(parts_of([10] * 4, 5), 40, seed)] += 1

    # Each row comes to each place about ten times.
    assert places.min() >= 1
    assert places.max() <= 30


def test_no_more_than_the_buffer_is_read_before_rows_leave() -> None:
    read: list[int] = []

    def part(number: int) -> Iterator[Arrays]:
        read.append(number)
        yield (np.arange(10),)

    pieces = shuffled([partial(part, number) for number in range(100)], 30, 0)
    next(pieces)
    assert len(read) == 4
    next(pieces)
    assert len(read) == 5


@given(st.lists(st.integers(1, 30), max_size=8), st.integers(1, 20))
def test_pieces_become_multiples_of_a_batch(sizes: list[int], size: int) -> None:
    numbers = np.arange(sum(sizes))
    split = np.split(numbers, np.cumsum(sizes)[:-1])
    pieces = list(in_multiples(((each,) for each in split if len(each)), size))

    assert all(len(piece) % size == 0 for (piece,) in pieces[:-1])
    assert [number for (piece,) in pieces for number in piece.tolist()] == numbers.tolist()


def test_one_item_is_made_ahead_by_another_thread() -> None:
    made = [threading.Event() for _ in range(4)]
    makers = []

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            makers.append(threading.current_thread().name)
            event.set()
            yield number

    found = read_ahead(items())
    assert next(found) == 0
    assert made[1].wait(30)
    assert list(found) == [1, 2, 3]
    assert threading.current_thread().name not in makers


def test_what_fails_ahead_fails_where_it_is_wanted() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("lost")

    found = read_ahead(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="lost"):
        next(found)


def test_a_reader_that_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    found = read_ahead(iter(range(1, 100)))
    next(found)
    found.close()

    assert threading.active_count() == before
