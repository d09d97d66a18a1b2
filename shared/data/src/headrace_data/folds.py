"""Folds: which fifth of the training split a row is in, by where it came from.

What a transform learned from the label must not tell a training row its own: for it the row's fold is left out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import lineage
from headrace_data.sampling import ranks_of

FOLDS: Final = 5
"""How many there are."""
FOLD: Final = "_fold"
"""Column of arrays: the fold of each training row, [rows] int64. No field begins with an underscore."""


def folds_of(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the fold of each row, from 0: the same wherever, and with whichever others, it is read."""
    return (ranks_of(*lineage(rows)) % np.uint32(FOLDS)).astype(np.int64)
