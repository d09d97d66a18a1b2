"""What a run may take of memory."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace_data.spec import Train
from headrace_learning.families.family import Family

from headrace_trainer.errors import DoesNotFit


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

    folder: Path | None = None
    """Where weights of a large graph lie that memory need not hold; None keeps all there."""

    def holds(self, rows: tuple[int, int], raw_bytes: int, prepared_bytes: int) -> bool:
        """Return whether rows are kept in memory: those of both splits, with the size of one as read and prepared."""
        training, validation = rows
        # While the training split is prepared, its features are there beside the rows that they are joined to.
        return training * (raw_bytes + 2 * prepared_bytes) + validation * prepared_bytes <= self.rows_bytes


def require_room(
    family: Family,
    train: Train,
    shape: Sequence[int],
    outputs: int,
    rows: tuple[int, int],
    held_bytes: int,
    total_bytes: int,
) -> None:
    """Raise DoesNotFit when training takes more memory than there is, or than its budget.

    Sizes are those of `Family.least_bytes`.
    """
    allowed = train.budget.memory if train.budget else None
    by_budget = allowed is not None and allowed < total_bytes
    total_bytes = allowed if allowed is not None and by_budget else total_bytes
    needed = family.least_bytes(train, shape, outputs, rows, held_bytes)
    if needed > total_bytes:
        raise DoesNotFit(
            family.parameters(train.network, shape, outputs), sum(rows), needed, total_bytes, by_budget=by_budget
        )
