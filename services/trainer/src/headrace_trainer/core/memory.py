"""What training a network takes of memory at the least."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from headrace_data.spec import Train
from headrace_data.spec.network_size import count_parameters, row_values

from headrace_trainer.core.rows import MEASURED_AT_ONCE
from headrace_trainer.errors import DoesNotFit

_NUMBER_BYTES = 4
_REMEMBERED = {"sgd": 0, "momentum": 1, "adam": 2}
"""Numbers that an optimiser keeps for each parameter."""


@dataclass(frozen=True)
class Memory:
    """What a run may take of memory."""

    total_bytes: int = sys.maxsize
    """What there is."""
    rows_bytes: int = 256 * 2**20
    """What the rows of the training and the validation split may take while they are prepared. More are streamed.

    No setting, and nothing of the machine: streamed rows come in another order, and the same dataset and spec must give
    the same version everywhere.
    """
    buffer_bytes: int = 96 * 2**20
    """What the buffer takes through which streamed rows are shuffled."""
    validation_bytes: int = 64 * 2**20
    """What the validation split may take beside streamed rows, prepared. A larger one is read anew after each epoch."""

    def holds(self, rows: tuple[int, int], raw_bytes: int, prepared_bytes: int) -> bool:
        """Return whether rows are kept in memory: those of both splits, with the size of one as read and prepared."""
        training, validation = rows
        # While the training split is prepared, its features are there beside the rows that they are joined to.
        return training * (raw_bytes + 2 * prepared_bytes) + validation * prepared_bytes <= self.rows_bytes


def least_bytes(train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int) -> int:
    """Return the memory that training takes at least, beside the libraries and the rows as they were read.

    `shape` is that of one prepared row, `rows` are those of the training and the validation split. Counted are the
    prepared rows that are held, what a batch leaves in the layers, and for each parameter: weight, gradient, the best
    epoch's weight and the optimiser's memory; a copy of weight and memory, and another of these and the best weight,
    when a checkpoint is made, which then stands there twice in bytes.
    """
    remembered = _REMEMBERED[train.optimizer.kind]
    copies = (3 + remembered) + (1 + remembered) + 2 * (2 + remembered)
    values = row_values(train.network, shape, outputs)
    training, validation = rows
    learning = min(train.batch_size, training) * sum(values)
    measuring = min(MEASURED_AT_ONCE, validation) * max((one + other for one, other in pairwise(values)), default=0)
    numbers = copies * count_parameters(train.network, shape, outputs)
    return held_bytes + _NUMBER_BYTES * (numbers + max(learning, measuring))


def require_room(
    train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int, total_bytes: int
) -> None:
    """Raise DoesNotFit when training takes more memory than there is."""
    needed = least_bytes(train, shape, outputs, rows, held_bytes)
    if needed > total_bytes:
        raise DoesNotFit(count_parameters(train.network, shape, outputs), sum(rows), needed, total_bytes)
