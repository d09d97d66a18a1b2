"""Rare classes more often: how many times each row of a class comes in an epoch.

The same in every epoch, so nothing is drawn at random but the order, and how long an epoch is can be told beforehand.
"""

from collections.abc import Sequence

import torch
from headrace_data.spec import Train

from headrace_learning.errors import NotLearnable
from headrace_learning.training.rows import RepeatedRows, Rows, Source, StreamedRows

MOST_TIMES = 1000
"""How often a row comes in an epoch at most."""
MOST_PLACES = 50_000_000
"""Rows of an epoch whose order is held in memory, at most: it takes a gigabyte then."""


def times_of(counts: Sequence[int], strength: float) -> torch.Tensor:
    """Return how often each row of a class comes, [classes] int64, given the classes' rows in the training split.

    At 1 each class has about as many rows as the commonest; at 0.5 the square root of that is made up for.
    """
    held = torch.tensor(counts, dtype=torch.float64).clamp(min=1)
    return (held.max() / held).pow(strength).round().clamp(1, MOST_TIMES).to(torch.int64)


def oversampled(source: Source, train: Train, counts: Sequence[int]) -> Source:
    """Return the training split as an epoch sees it; `counts` are the rows of each class, none of another task.

    Raise `NotLearnable` where an epoch of rows in memory grows beyond `MOST_PLACES`.
    """
    strength = train.augment.oversample if train.augment else 0.0
    if strength == 0.0 or not counts:
        return source
    times = times_of(counts, strength)
    epoch_rows = int((times * torch.tensor(counts)).sum())
    if isinstance(source, StreamedRows):
        return source.repeated(times, epoch_rows)
    if isinstance(source, Rows):
        if epoch_rows > MOST_PLACES:
            raise NotLearnable(
                f"train.augment.oversample: expected epochs of at most {MOST_PLACES:,} rows, got {epoch_rows:,} of the "
                f"{len(source):,} rows in {len(counts)} classes at {strength:g}; a lower number repeats fewer"
            )
        return RepeatedRows(source, torch.repeat_interleave(times[source.targets]))
    raise TypeError(f"source: expected rows in memory or in a stream, got {type(source).__name__}")
