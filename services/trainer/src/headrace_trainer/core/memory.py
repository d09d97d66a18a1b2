"""What training a network takes of memory at the least."""

from collections.abc import Sequence
from itertools import pairwise

from headrace_data.spec import Train
from headrace_data.spec.network_size import count_parameters, row_values

from headrace_trainer.core.training import MEASURED_AT_ONCE
from headrace_trainer.errors import DoesNotFit

_NUMBER_BYTES = 4
_REMEMBERED = {"sgd": 0, "momentum": 1, "adam": 2}
"""Numbers that an optimiser keeps for each parameter."""


def least_bytes(train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int]) -> int:
    """Return the memory that training takes at least, beside the libraries and the rows as they were read.

    `shape` is that of one prepared row, `rows` are those of the training and the validation split. Counted are the
    prepared rows, what a batch leaves in the layers, and for each parameter: weight, gradient, the best epoch's weight
    and the optimiser's memory; a copy of weight and memory, and another of these and the best weight, when a checkpoint
    is made, which then stands there twice in bytes.
    """
    remembered = _REMEMBERED[train.optimizer.kind]
    copies = (3 + remembered) + (1 + remembered) + 2 * (2 + remembered)
    values = row_values(train.network, shape, outputs)
    training, validation = rows
    learning = min(train.batch_size, training) * sum(values)
    measuring = min(MEASURED_AT_ONCE, validation) * max((one + other for one, other in pairwise(values)), default=0)
    numbers = copies * count_parameters(train.network, shape, outputs)
    return _NUMBER_BYTES * (numbers + (training + validation) * values[0] + max(learning, measuring))


def require_room(train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], total_bytes: int) -> None:
    """Raise DoesNotFit when training takes more memory than there is."""
    needed = least_bytes(train, shape, outputs, rows)
    if needed > total_bytes:
        raise DoesNotFit(count_parameters(train.network, shape, outputs), sum(rows), needed, total_bytes)
