"""A loaded model, whatever engine runs it: arrays in, arrays out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a model.

    `dtype` is object for texts. A dimension is a size, or the name of one that the caller chooses; equal names mean
    equal sizes. What is `optional` may be missing, as NaN or an empty text. `labels` say what the places of an output's
    last dimension stand for, where the model knows, and `steps` those of the one behind the batch, such as
    the steps of a forecast. Of an output that `depends` a row's values depend on the other rows of its call.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    optional: bool = False
    labels: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    depends: bool = False


class Model(Protocol):
    """A loaded model. Safe for use by many threads."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What it takes, as callers send it: texts as texts."""

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What it answers."""

    @property
    def is_steady(self) -> bool:
        """Whether the number of rows alone decides how long a run takes."""

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the outputs named, in that order, for arrays by the inputs' names.

        Raises RanTooLong, NoMemory, and Unanswerable for values that the model cannot compute with.
        """

    def tokens(self, arrays: Mapping[str, Array]) -> int:
        """Return how many tokens it reads of texts; 0 where it reads none."""

    def sample(self, rows: int) -> dict[str, Array]:
        """Return rows to try it with: zeros, and texts that take as long as any."""


def run_in_batches(
    model: Model, columns: Mapping[str, Array], outputs: Sequence[str], batch_size: int = 256
) -> list[Array]:
    """Run every row of `columns` through a model and return the named outputs, each for all rows.

    Columns that the model does not ask for are left out. Raise ValueError when it asks for one that is not there, or
    when there are no rows.
    """
    names = [each.name for each in model.inputs]
    missing = [name for name in names if name not in columns]
    if missing:
        raise ValueError(f"columns: the graph asks for {missing}, got {sorted(columns)}")
    rows = len(columns[names[0]])
    if rows == 0:
        raise ValueError("rows: expected at least one to run, got none")
    parts = [
        model.run({name: columns[name][start : start + batch_size] for name in names}, outputs)
        for start in range(0, rows, batch_size)
    ]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
