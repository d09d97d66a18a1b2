"""Leaving out: which rows of a window its dataset is without, as they look beside others of its rows.

That is known only of all rows together. So it is decided when the dataset is made, over its rows in their canonical
order: the same rows give the same dataset, however they arrived. What is left out stays in its segment, and is a row
of the next dataset where it looks otherwise beside others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.leaks import LeakRows, Leaks
from headrace_data.manifest import Part, Reading, Slice
from headrace_data.near import NearRows
from headrace_data.outliers import OutlierRows, Outlying, bounds_of
from headrace_data.parts import BlobStore, read_part
from headrace_data.recall import Taken
from headrace_data.sketches import Sketch
from headrace_data.slices import as_taken, is_taken, left_out, splits_of, without
from headrace_data.spec import Field, Pipeline
from headrace_data.split import SPLITS

Mask = npt.NDArray[np.bool_]


class RowsRule(Protocol):
    """Looks at the rows of one dataset beside each other."""

    names: tuple[str, ...]
    """The fields that are looked at."""

    def add(self, batch: pa.RecordBatch, held_out: Mask) -> None:
        """Take in rows in their order, and which of them are of validation or test. Raises DatasetUnusable."""

    def left_out(self) -> Mapping[str, Mask]:
        """Return which of all rows are left out, by what they are counted under."""


def _outliers(pipeline: Pipeline, known: Sketch) -> RowsRule | None:
    bounds = bounds_of(known.sides["train"], pipeline)
    return OutlierRows(bounds) if bounds else None


def _near_duplicates(pipeline: Pipeline, _known: Sketch) -> RowsRule | None:
    rules = pipeline.prepare.clean.near_duplicates
    return NearRows(rules) if rules else None


DATASET_RULES: Final[Mapping[str, Callable[[Pipeline, Sketch], RowsRule | None]]] = {
    "outliers": _outliers,
    "nearDuplicates": _near_duplicates,
}
"""By its key under `prepare.clean`, in the order in which they count: each looks at what the ones before it left.

Each is begun with what is known of the window before any row is left out; none where the pipeline has none."""


@dataclass
class LeavingOut:
    """Applies these rules to what a window takes."""

    pipeline: Pipeline
    reading: Reading
    store: BlobStore
    keep_alive: Callable[[], None]
    """Called for each part that is read."""
    outlying: tuple[Outlying, ...] = ()
    """What was far of each field that was looked at."""

    def without(self, taken: list[Taken], known: Sketch) -> tuple[list[Taken], Counter[str]]:
        """Return what is taken without the rows that are left out, and how many these are, by rule."""
        counts = Counter[str]()
        for begin in DATASET_RULES.values():
            if (rule := begin(self.pipeline, known)) is not None:
                taken, found = self._without(taken, rule)
                counts += found
                self.outlying = rule.found() if isinstance(rule, OutlierRows) else self.outlying
        return taken, counts

    def leaks(self, taken: Sequence[Taken]) -> Leaks | None:
        """Return which training rows are in validation or test, too; None where the pipeline does not ask."""
        if self.pipeline.prepare.leak is None:
            return None
        rows = LeakRows(self.pipeline)
        for each in taken:
            for part in each.rows.parts:
                self._look(each.rows, part, rows)
        return rows.found()

    def _without(self, taken: Sequence[Taken], rule: RowsRule) -> tuple[list[Taken], Counter[str]]:
        places = [(each, part) for each in taken for part in each.rows.parts]
        kept = [self._look(each.rows, part, rule) for each, part in places]
        found, counts, start = rule.left_out(), Counter[str](), 0
        parts: dict[int, list[Part]] = {}
        for (each, part), rows in zip(places, kept, strict=True):
            left = {name: np.zeros(part.rows, dtype=np.bool_) for name in found}
            for name, where in found.items():
                left[name][rows] = where[start : start + len(rows)]
                counts[name] += int(left[name].sum())
            start += len(rows)
            parts.setdefault(id(each), []).append(without(part, left))
        slices = [each.rows.model_copy(update={"parts": tuple(parts.get(id(each), ()))}) for each in taken]
        return [Taken(each.manifest, rows) for each, rows in zip(taken, slices, strict=True)], counts

    def _look(self, rows: Slice, part: Part, rule: RowsRule) -> npt.NDArray[np.int64]:
        """Show a rule the rows that a dataset takes of a part so far; return which of the part they are."""
        self.keep_alive()
        batch = read_part(part, self._needed(rows, rule), self.store)
        fields = self.pipeline.stream.fields
        kept = np.flatnonzero(is_taken(batch, rows, fields, self.reading) & ~left_out(part))
        batch = as_taken(batch.take(pa.array(kept)), rows, self.reading)
        rule.add(batch, splits_of(batch, self.reading) != SPLITS.index("train"))
        return kept

    def _needed(self, rows: Slice, rule: RowsRule) -> Sequence[Field]:
        """Return the fields to read: all of them where rows of before are cleaned again."""
        if rows.strict:
            return self.pipeline.stream.fields
        wanted = {self.reading.split_field, *rule.names}
        return [field for field in self.pipeline.stream.fields if field.name in wanted]
