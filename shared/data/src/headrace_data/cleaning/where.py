"""`where`: a condition over several fields of a row does not hold, written in the SQL of `stream.select`.

The fields have their types here, as the schema has them: what came as a text was read before. As in SQL a row is left
where a condition is true; where it is NULL, as something in it is missing, the row is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from headrace_data.records import Rejection
from headrace_data.spec import Clean, Field

if TYPE_CHECKING:
    from headrace_data.select.conditions import Conditions

WHERE: Final = "where"
_SHOWN: Final = 6
"""Values that a reason shows."""


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
def _conditions(texts: tuple[str, ...], fields: tuple[Field, ...]) -> Conditions:
    from headrace_data.select.conditions import Conditions  # who has none needs no DuckDB

    return Conditions(texts, fields)
