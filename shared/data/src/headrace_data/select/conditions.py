"""Conditions over the fields of a row: one expression of SQL each, which is true or not.

The fields have their types, as the schema has them. As in SQL a row is kept where a condition is true, and not where it
is NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from headrace_data.errors import SelectInvalid
from headrace_data.select.binding import over_columns
from headrace_data.select.checking import Wanted
from headrace_data.select.engine import ComputingFailed, Engine, OutOfTime
from headrace_data.select.functions import MOST_GROWTH, growth, refusals
from headrace_data.select.tree import Leaf, Output, leaves, outputs_of

LIMIT_S: Final = 5.0
"""How long computing some rows may take, in seconds."""
MOST_STOPPED: Final = 8
"""How often it may be stopped for one batch; then rows that are left are dropped as they are."""

Mask = npt.NDArray[np.bool_]


class Read(NamedTuple):
    """A value of a row that a condition reads."""

    column: str
    """The name that it has in the condition."""
    field: Wanted
    element: int | None
    """Which element of a field with a shape, row-major from 0; None for all of it, a list."""

    def of(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the values of rows. What a record has for a bool is one here, too."""
        column = batch.column(self.field.name)
        if self.element is not None:
            column = pc.list_element(column, self.element)
        kind = (
            pa.bool_()
            if self.element is not None or not self.field.shape
            else pa.list_(pa.bool_(), prod(self.field.shape))
        )
        return column.cast(kind) if self.field.type == "bool" else column


@dataclass(frozen=True)
class Condition:
    """One condition that DuckDB understands."""

    shown: str
    """As it was written."""
    text: str
    """Its SQL, over columns that have the names of its leaves."""
    reads: tuple[Read, ...]


class Conditions:
    """The conditions of a pipeline, ready for rows. Several threads compute one after another."""

    def __init__(self, texts: Sequence[str], fields: Sequence[Wanted]) -> None:
        """Raise SelectInvalid with every problem, each behind the number of its condition, from 0."""
        self._engine = Engine()
        self._named = {field.name: field for field in fields}
        self.each = [self._made(number, text) for number, text in enumerate(texts)]
        self._stopped = 0

    def _made(self, number: int, text: str) -> Condition:

        output = _parsed(text, number, self._engine)
        found = tuple(self._read(leaf, number) for leaf in dict.fromkeys(leaves(output.expression)))
        condition = Condition(text.strip(), self._engine.written(over_columns(output.expression)), found)
        fields = dict.fromkeys(read.field for read in found)
        nothing = pa.record_batch([pa.array([], _type(each)) for each in fields], [each.name for each in fields])
        try:
            kind = self._asked(condition, nothing).type
        except ComputingFailed as error:
            raise SelectInvalid([f"{number}: {error}"]) from error
        if not pa.types.is_boolean(kind):
            raise SelectInvalid([f"{number}: expected a condition, got an expression of type {kind}"])
        return condition

    def _read(self, leaf: Leaf, number: int) -> Read:
        name, *places = leaf.path
        field = None if leaf.of_message else self._named.get(str(name))
        if field is not None and not places:
            return Read(leaf.column, field, None)
        place = places[0] if len(places) == 1 else None
        if field is not None and field.shape and isinstance(place, int) and 1 <= place <= prod(field.shape):
            return Read(leaf.column, field, place - 1)
        known = ", ".join(list(self._named)[:12])
        raise SelectInvalid([f"{number}: expected fields of the schema ({known}), got {leaf}"])

    def kept(self, condition: Condition, batch: pa.RecordBatch) -> Mask:
        """Return for which rows a condition is true; for none that it cannot be computed of."""
        self._stopped = 0
        return self._kept(condition, batch)

    def _kept(self, condition: Condition, batch: pa.RecordBatch) -> Mask:

        if self._stopped < MOST_STOPPED:
            try:
                true: Mask = pc.fill_null(self._asked(condition, batch), False).to_numpy(zero_copy_only=False)
            except ComputingFailed as error:
                self._stopped += isinstance(error, OutOfTime)
                if len(batch) > 1:
                    half = len(batch) // 2
                    halves = [self._kept(condition, each) for each in (batch.slice(0, half), batch.slice(half))]
                    return np.concatenate(halves)
            else:
                return true
        return np.zeros(len(batch), dtype=np.bool_)

    def _asked(self, condition: Condition, batch: pa.RecordBatch) -> pa.Array:
        columns = {read.column: read.of(batch) for read in condition.reads}
        rows = pa.table(columns or {"nothing": pa.nulls(len(batch), pa.string())})
        return self._engine.compute(f"SELECT {condition.text} AS kept FROM rows", rows, LIMIT_S).column(0)


def problems_of(texts: Sequence[str], fields: Sequence[Wanted]) -> list[str]:
    """Return every problem of conditions over rows of these fields, each behind the condition's number and a colon."""
    found: list[str] = []
    for number, text in enumerate(texts):
        try:
            Conditions([text], fields)
        except SelectInvalid as error:
            found += [f"{number}:{problem.partition(':')[2]}" for problem in error.problems]
    return found


def _type(field: Wanted) -> pa.DataType:
    """Return the type that a field's column has in a batch."""
    element = pa.uint8() if field.type == "bool" else pa.type_for_alias(field.type)
    return pa.list_(element, prod(field.shape)) if field.shape else element


@cache
def _refused() -> dict[str, str]:

    return dict(refusals(Engine().functions()))


def _parsed(text: str, number: int, engine: Engine) -> Output:
    """Return the tree of one condition, of which everything is allowed. Raises SelectInvalid."""
    try:
        outputs = outputs_of(f"({text}\n) AS kept", engine, _refused())
    except SelectInvalid as error:
        raise SelectInvalid([f"{number}: {problem.replace(', kept', '')}" for problem in error.problems]) from error
    if len(outputs) != 1 or outputs[0].name != "kept":
        raise SelectInvalid([f"{number}: expected one condition, got {len(outputs)}"])
    if (much := growth(outputs[0].expression)) > MOST_GROWTH:
        raise SelectInvalid([f"{number}: expected at most {MOST_GROWTH} times the bytes of a row, got up to {much}"])
    return outputs[0]
