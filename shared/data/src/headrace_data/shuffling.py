"""Rows of a dataset that is larger than memory, in an order that is a function of a seed alone.

The parts are read in a random order, and their rows pass a buffer: each row that enters takes the place of a random
one, which leaves. So a row leaves among rows of any part that was read before it, however large the dataset is. Memory
is the buffer and one piece of a part; the order depends on the seed, the parts and the buffer, never on timing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Arrays = tuple[npt.NDArray[Any], ...]
"""Some rows: arrays of one length, each [rows, ...]."""
_T = TypeVar("_T")


def shuffled(parts: Sequence[Callable[[], Iterator[Arrays]]], capacity: int, seed: int) -> Iterator[Arrays]:
    """Yield every row of the parts once, in pieces of about the size in which they yield them.

    `capacity` is the number of rows that the buffer holds, at least one.
    """
    random = np.random.default_rng(seed)
    buffer = _Buffer(capacity)
    for number in random.permutation(len(parts)).tolist():
        for piece in parts[number]():
            rows = buffer.fill(piece)
            for start in range(0, len(rows[0]), capacity):
                entering = tuple(each[start : start + capacity] for each in rows)
                yield buffer.exchange(entering, random.choice(capacity, len(entering[0]), replace=False))
    yield from buffer.empty(random)


def in_multiples(pieces: Iterator[Arrays], size: int) -> Iterator[Arrays]:
    """Yield the same rows in the same order, but for the last in pieces that are multiples of `size` rows long."""
    waiting: Arrays = ()
    for piece in pieces:
        joined = tuple(map(np.concatenate, zip(waiting, piece, strict=True))) if waiting else piece
        whole = len(joined[0]) - len(joined[0]) % size
        if whole:
            yield tuple(each[:whole] for each in joined)
        # Copied, so that the rest does not keep the whole alive.
        waiting = tuple(each[whole:].copy() for each in joined)
    if waiting and len(waiting[0]):
        yield waiting


def read_ahead(items: Iterator[_T]) -> Generator[_T, None, None]:
    """Yield the same items, while one thread makes the next one: reading then costs those who use them no time."""
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


class _Buffer:
    """A fixed number of rows. Places are filled once, and exchanged from then on."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: Arrays = ()
        self._rows = 0
        self._piece = 1

    def fill(self, piece: Arrays) -> Arrays:
        """Take as many rows as there is room for; return the others."""
        if not self._held:
            self._held = tuple(np.empty((self._capacity, *each.shape[1:]), each.dtype) for each in piece)
        self._piece = max(self._piece, len(piece[0]))
        taken = min(len(piece[0]), self._capacity - self._rows)
        for held, each in zip(self._held, piece, strict=True):
            held[self._rows : self._rows + taken] = each[:taken]
        self._rows += taken
        return tuple(each[taken:] for each in piece)

    def exchange(self, entering: Arrays, places: npt.NDArray[np.int64]) -> Arrays:
        """Put rows into these places, and return those that were there."""
        leaving = tuple(held.take(places, axis=0) for held in self._held)
        for held, each in zip(self._held, entering, strict=True):
            held[places] = each
        return leaving

    def empty(self, random: np.random.Generator) -> Iterator[Arrays]:
        """Yield what is left."""
        order = random.permutation(self._rows)
        for start in range(0, self._rows, self._piece):
            yield tuple(held.take(order[start : start + self._piece], axis=0) for held in self._held)
