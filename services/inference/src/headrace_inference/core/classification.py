"""The classes of an output that score highest, in the words of Triton's classification extension."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from headrace_inference.core.tensors import Array


def top_classes(scores: Array, count: int, *, batched: bool, labels: Sequence[str] = ()) -> Array:
    """Return the `count` highest scores as texts `score:index`, highest first; of equal scores the lower index first.

    An index that has one of the `labels` is followed by it: `score:index:label`. For a batched model, whose first
    dimension is the rows, the answer is [rows, count]; for another one [count]. Fewer come when there are fewer scores.
    Scores that are no whole numbers have six decimals, as in Triton.
    """
    rows = scores.shape[0] if batched else 1
    by_row = scores.reshape(rows, prod(scores.shape[1:]) if batched else scores.size)
    # As floats, because the negative of an unsigned number would be none.
    order = np.argsort(-by_row.astype(np.float64), axis=1, kind="stable")[:, :count]
    form = "%d:%d" if scores.dtype.kind in "iub" else "%f:%d"
    found = np.empty(order.shape, object)
    for row, places in enumerate(order):
        for rank, place in enumerate(places):
            found[row, rank] = form % (by_row[row, place], place) + (f":{labels[place]}" if place < len(labels) else "")
    return found if batched else found[0]
