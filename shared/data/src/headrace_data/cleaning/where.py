"""`where`: a condition over several fields of a row does not hold, written in the SQL of `stream.select`.

The fields have their types here, as the schema has them: what came as a text was read before. As in SQL a row is left
where a condition is true; where it is NULL, as something in it is missing, the row is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import arrow_type
from headrace_data.errors import SelectInvalid
from headrace_data.records import Rejection
from headrace_data.spec import Clean, Field

if TYPE_CHECKING:
    from headrace_data.select.engine import Engine
    from headrace_data.select.tree import Leaf, Output

WHERE: Final = "where"
LIMIT_S: Final = 5.0
"""How long computing some rows may take, in seconds."""
MOST_STOPPED: Final = 8
"""How often it may be stopped for one batch; then rows that are left are dropped as they are."""
_SHOWN: Final = 6
"""Values that a reason shows."""

Mask = npt.NDArray[np.bool_]


class _Read(NamedTuple):
    """A value of a row that a condition reads."""

    column: str
    """The name that it has in the condition."""
    field: Field
    element: int | None
    """Which element of a field with a shape, row-major from 0; None for all of it, a list."""

    def of(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the values of rows. What a record has for a bool is one here, too."""
        column = batch.column(self.field.name)
        if self.element is not None:
            column = pc.list_element(column, self.element)
        kind = pa.bool_() if self.element is not None or not self.field.shape else pa.list_(pa.bool_(), self.field.size)
        return column.cast(kind) if self.field.type == "bool" else column


@dataclass(frozen=True)
class _Condition:
    """One condition that DuckDB understands."""

    shown: str
    """As it was written."""
    text: str
    """Its SQL, over columns that have the names of its leaves."""
    reads: tuple[_Read, ...]


class _Conditions:
    """The conditions of a pipeline, ready for rows. Several threads compute one after another."""

    def __init__(self, texts: Sequence[str], fields: Sequence[Field]) -> None:
        """Raise SelectInvalid with every problem, each behind the number of its condition, from 0."""
        from headrace_data.select.engine import Engine

        self._engine = Engine()
        self._named = {field.name: field for field in fields}
        self.each = [self._made(number, text) for number, text in enumerate(texts)]
        self._stopped = 0

    def _made(self, number: int, text: str) -> _Condition:
        from headrace_data.select.binding import over_columns
        from headrace_data.select.engine import ComputingFailed

        output = _parsed(text, number, self._engine)
        found = tuple(self._read(leaf, number) for leaf in dict.fromkeys(_leaves(output.expression)))
        condition = _Condition(text.strip(), self._engine.written(over_columns(output.expression)), found)
        fields = dict.fromkeys(read.field for read in found)
        nothing = pa.record_batch([pa.array([], arrow_type(each)) for each in fields], [each.name for each in fields])
        try:
            kind = self._asked(condition, nothing).type
        except ComputingFailed as error:
            raise SelectInvalid([f"{number}: {error}"]) from error
        if not pa.types.is_boolean(kind):
            raise SelectInvalid([f"{number}: expected a condition, got an expression of type {kind}"])
        return condition

    def _read(self, leaf: Leaf, number: int) -> _Read:
        name, *places = leaf.path
        field = None if leaf.of_message else self._named.get(str(name))
        if field is not None and not places:
            return _Read(leaf.column, field, None)
        place = places[0] if len(places) == 1 else None
        if field is not None and field.shape and isinstance(place, int) and 1 <= place <= field.size:
            return _Read(leaf.column, field, place - 1)
        known = ", ".join(list(self._named)[:12])
        raise SelectInvalid([f"{number}: expected fields of the schema ({known}), got {leaf}"])

    def kept(self, condition: _Condition, batch: pa.RecordBatch) -> Mask:
        """Return for which rows a condition is true; for none that it cannot be computed of."""
        self._stopped = 0
        return self._kept(condition, batch)

    def _kept(self, condition: _Condition, batch: pa.RecordBatch) -> Mask:
        from headrace_data.select.engine import ComputingFailed, OutOfTime

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

    def _asked(self, condition: _Condition, batch: pa.RecordBatch) -> pa.Array:
        columns = {read.column: read.of(batch) for read in condition.reads}
        rows = pa.table(columns or {"nothing": pa.nulls(len(batch), pa.string())})
        return self._engine.compute(f"SELECT {condition.text} AS kept FROM rows", rows, LIMIT_S).column(0)


def problems_of(texts: Sequence[str], fields: Sequence[Field]) -> list[str]:
    """Return every problem of conditions over rows of these fields, each behind the condition's number and a colon."""
    found: list[str] = []
    for number, text in enumerate(texts):
        try:
            _Conditions([text], fields)
        except SelectInvalid as error:
            found += [f"{number}:{problem.partition(':')[2]}" for problem in error.problems]
    return found


def rows_where_not(
    batch: pa.RecordBatch, fields: Sequence[Field], rules: Clean, _squared: Collection[str]
) -> Iterator[Rejection]:
    """Yield the rows of which a condition does not hold. Raises SelectInvalid where DuckDB is not installed."""
    if not rules.where or not len(batch):
        return
    conditions = _conditions(rules.where, tuple(fields))
    for condition in conditions.each:
        for position in np.flatnonzero(~conditions.kept(condition, batch)).tolist():
            # Texts may hold what nobody is to read in a log.
            read = dict.fromkeys(each.field for each in condition.reads)
            shown = [field.name for field in read if field.type != "string" and not field.shape]
            got = ", ".join(f"{name} = {batch.column(name)[position].as_py()}" for name in shown[:_SHOWN])
            yield Rejection(position, WHERE, "", f"expected {condition.shown}, got {got or 'something else'}")


@lru_cache(maxsize=8)
def _conditions(texts: tuple[str, ...], fields: tuple[Field, ...]) -> _Conditions:
    return _Conditions(texts, fields)


@cache
def _refused() -> dict[str, str]:
    from headrace_data.select.engine import Engine
    from headrace_data.select.functions import refusals

    return dict(refusals(Engine().functions()))


def _parsed(text: str, number: int, engine: Engine) -> Output:
    """Return the tree of one condition, of which everything is allowed. Raises SelectInvalid."""
    from headrace_data.select.functions import MOST_GROWTH, growth
    from headrace_data.select.tree import outputs_of

    try:
        outputs = outputs_of(f"({text}\n) AS kept", engine, _refused())
    except SelectInvalid as error:
        raise SelectInvalid([f"{number}: {problem.replace(', kept', '')}" for problem in error.problems]) from error
    if len(outputs) != 1 or outputs[0].name != "kept":
        raise SelectInvalid([f"{number}: expected one condition, got {len(outputs)}"])
    if (much := growth(outputs[0].expression)) > MOST_GROWTH:
        raise SelectInvalid([f"{number}: expected at most {MOST_GROWTH} times the bytes of a row, got up to {much}"])
    return outputs[0]


def _leaves(expression: Any) -> Iterator[Leaf]:
    from headrace_data.select.tree import leaves

    return leaves(expression)
