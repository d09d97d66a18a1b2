"""How few rows a class has in a split: three test rows of a class tell nothing of it, however many the others have."""

from __future__ import annotations

from typing import Final, NamedTuple

from headrace_data.sketches import Sketch
from headrace_data.split import SplitName

_LONGEST: Final = 200


class ClassRows(NamedTuple):
    """The rows of a class in a split."""

    label: str
    """The class, as text, of which 200 letters are enough to know it by; of a bool 0 or 1."""
    split: SplitName
    """The split."""
    rows: int
    """How many of its rows are of the class; may be 0."""


def rarest(sketch: Sketch) -> ClassRows | None:
    """Return the class with the fewest rows in a split, of several the first in the first one.

    None where labels are no classes, are more than are counted, or were not counted by split when segments were cut.
    """
    if not sketch.labels.counts or sketch.labels.beyond:
        return None
    found: list[ClassRows] = []
    for split, side in sketch.sides.items():
        if side.labels is None:
            return None
        counts = side.labels.counts
        found += [ClassRows(str(label)[:_LONGEST], split, counts[label]) for label in sorted(sketch.labels.counts)]
    return min(found, key=lambda each: each.rows)
