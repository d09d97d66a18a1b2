"""The prepared rows of a split: in memory, or streamed from its parts where they are too many for that."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import pyarrow as pa
import torch
from headrace_data.errors import DatasetInvalid
from headrace_data.shuffling import Arrays, in_multiples, read_ahead, shuffled

from headrace_learning.training.randomness import order_of_rows, seed_for

MEASURED_AT_ONCE = 4096
"""Rows that a forward pass without gradients takes."""
_PIECE_BYTES = 4 * 2**20
"""What the rows that are prepared at once take, about."""


@dataclass(frozen=True)
class Rows:
    """Prepared rows, in memory."""

    inputs: torch.Tensor
    """[rows, *input shape of the network] float32, transforms applied."""
    targets: torch.Tensor
    """[rows, ...], as the objective takes them."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.targets)

    def batches(self, size: int, seed: int, epoch: int) -> Generator["Rows", None, None]:
        """Yield each row once, in an order that is a function of (seed, epoch), `size` rows at a time."""
        for places in torch.split(self.order(seed, epoch), size):
            # Whole rows are copied, which takes half of what `self.inputs[places]` does.
            yield Rows(self.inputs.index_select(0, places), self.targets.index_select(0, places))

    def order(self, seed: int, epoch: int) -> torch.Tensor:
        """Return the order in which an epoch sees the rows: a permutation, [rows] int64."""
        return order_of_rows(len(self), seed, epoch)

    def chunks(self) -> Iterator["Rows"]:
        """Yield all rows at once."""
        yield self


class Lists(Rows):
    """Prepared rows of lists, which are learned from side by side: the number of its list is a row's last target.

    Lists come in a random order, and so do the rows of each. A list that goes beyond the end of a batch is learned from
    in two pieces, other ones in each epoch: batches have one size, whatever the lists have.
    """

    def order(self, seed: int, epoch: int) -> torch.Tensor:
        """Return the order in which an epoch sees the rows: a permutation, [rows] int64."""
        order = super().order(seed, epoch)
        numbers, place = torch.unique(self.targets[:, -1], return_inverse=True)
        turns = order_of_rows(len(numbers), seed_for("lists", seed, epoch), epoch)
        return order[turns[place[order]].argsort(stable=True)]


@dataclass(frozen=True)
class RepeatedRows:
    """Rows in memory of which some come more than once in an epoch."""

    rows: Rows
    places: torch.Tensor
    """Of each that comes, [rows of an epoch] int64."""

    def __len__(self) -> int:
        """Return how many come in an epoch."""
        return len(self.places)

    def batches(self, size: int, seed: int, epoch: int) -> Generator[Rows, None, None]:
        """Yield the rows of an epoch, in an order that is a function of (seed, epoch), `size` rows at a time."""
        for places in torch.split(self.places[order_of_rows(len(self), seed, epoch)], size):
            yield Rows(self.rows.inputs.index_select(0, places), self.rows.targets.index_select(0, places))

    def chunks(self) -> Iterator[Rows]:
        """Yield each row once."""
        return self.rows.chunks()


def joined(parts: Iterable[Rows]) -> Rows:
    """Return rows that come in parts, in memory; at least one part."""
    held = list(parts)
    return type(held[0])(torch.cat([part.inputs for part in held]), torch.cat([part.targets for part in held]))


class Source(Protocol):
    """The rows of a split, wherever they are."""

    def __len__(self) -> int:
        """Return how many there are."""

    def batches(self, size: int, seed: int, epoch: int) -> Generator[Rows, None, None]:
        """Yield each row once, in an order that is a function of (seed, epoch), `size` rows at a time."""

    def chunks(self) -> Iterator[Rows]:
        """Yield each row once, in canonical order."""


class StreamedRows:
    """Rows that are read, prepared and shuffled anew in each epoch, by a thread that is ahead of training."""

    def __init__(
        self,
        parts: Sequence[Callable[[], Iterator[pa.RecordBatch]]],
        prepare: Callable[[pa.RecordBatch], Rows],
        rows: int,
        row_bytes: int,
        buffer_bytes: int,
    ) -> None:
        """Shuffle through a buffer of about `buffer_bytes`; `row_bytes` is the size of a prepared row.

        `parts` yield `rows` rows in all.
        """
        self._parts = parts
        self._prepare = prepare
        self._rows = self.epoch_rows = rows
        self.times: torch.Tensor | None = None
        self._piece = max(_PIECE_BYTES // row_bytes, 1)
        self._capacity = max(min(buffer_bytes // row_bytes, rows), 1)

    def __len__(self) -> int:
        """Return how many come in an epoch."""
        return self.epoch_rows

    def repeated(self, times: torch.Tensor, epoch_rows: int) -> "StreamedRows":
        """Return the rows of which each comes as often in `batches` as its class says, [classes] int64.

        That are `epoch_rows` in all. Targets are places of classes.
        """
        other = copy(self)
        other.times, other.epoch_rows = times, epoch_rows
        return other

    def batches(self, size: int, seed: int, epoch: int) -> Generator[Rows, None, None]:
        """Yield each row once, in an order that is a function of (seed, epoch), `size` rows at a time."""
        parts = [partial(self._arrays, part) for part in self._parts]
        pieces = shuffled(parts, self._capacity, seed_for("stream", seed, epoch))
        read = 0
        for arrays in read_ahead(in_multiples(pieces, size)):
            inputs, targets = map(torch.from_numpy, arrays)
            read += len(targets)
            for start in range(0, len(targets), size):
                yield Rows(inputs[start : start + size], targets[start : start + size])
        self._require_all(read, self.epoch_rows)

    def chunks(self) -> Iterator[Rows]:
        """Yield each row once, in canonical order, as many at a time as a forward pass takes."""
        read = 0
        for piece in read_ahead(piece for part in self._parts for piece in self._pieces(part)):
            read += len(piece)
            inputs, targets = torch.split(piece.inputs, MEASURED_AT_ONCE), torch.split(piece.targets, MEASURED_AT_ONCE)
            yield from map(type(piece), inputs, targets)
        self._require_all(read, self._rows)

    def _arrays(self, part: Callable[[], Iterator[pa.RecordBatch]]) -> Iterator[Arrays]:
        for piece in self._pieces(part):
            if self.times is None:
                yield piece.inputs.numpy(), piece.targets.numpy()
                continue
            for places in torch.split(torch.repeat_interleave(self.times[piece.targets]), self._piece):
                yield piece.inputs[places].numpy(), piece.targets[places].numpy()

    def _pieces(self, part: Callable[[], Iterator[pa.RecordBatch]]) -> Iterator[Rows]:
        for group in part():
            for start in range(0, len(group), self._piece):
                yield self._prepare(group.slice(start, self._piece))

    def _require_all(self, read: int, expected: int) -> None:
        if read != expected:
            raise DatasetInvalid(f"expected {expected} rows in the parts of a split, got {read}")
