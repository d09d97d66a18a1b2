"""Record batches: the Arrow columns that carry a stream's records from service to service.

One column per schema field, in schema order: single values as their own type, shaped fields as fixed-size lists of
their elements, row-major. Then the lineage: which message of the producers' topic a row came from, and when what it
tells of happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.errors import BatchInvalid
from headrace_data.spec import Field

PARTITION: Final = "_partition"
"""Column: partition of the producers' topic."""
OFFSET: Final = "_offset"
"""Column: offset of the producers' message."""
INDEX: Final = "_index"
"""Column: position of the row in its message, from 0."""
TIME: Final = "_time"
"""Column: event time of the row, microseconds in UTC; null where nobody knows it."""
TIME_TYPE: Final = pa.timestamp("us", tz="UTC")
NO_TIME: Final = -(2**63)
"""Stands for the event time of rows that have none: before all others."""
_LINEAGE: Final = (
    pa.field(PARTITION, pa.int32(), nullable=False),
    pa.field(OFFSET, pa.int64(), nullable=False),
    pa.field(INDEX, pa.int32(), nullable=False),
    pa.field(TIME, TIME_TYPE),
)
LINEAGE: Final = tuple(field.name for field in _LINEAGE)
"""The columns that say where a row came from and when."""
FIRST_US: Final = -62_135_596_800_000_000
LAST_US: Final = 253_402_300_799_999_999
"""The years 1 to 9999, which are those of Python's datetime."""


def arrow_type(field: Field) -> pa.DataType:
    """Return the Arrow type of a field's column."""
    element = pa.string() if field.type == "string" else pa.from_numpy_dtype(field.dtype)
    return pa.list_(pa.field("item", element, nullable=False), field.size) if field.shape else element


_END_OF_STREAM: Final = b"\xff\xff\xff\xff\0\0\0\0"
_NOTHING: Final = pa.scalar("")
"""Of a text of Python, Arrow would look for its type, and for a library of time zones to do so, each time."""


def arrow_schema(fields: Sequence[Field]) -> pa.Schema:
    """Return the columns of the record batches of a stream with these fields."""
    columns = [pa.field(field.name, arrow_type(field), nullable=field.nullable) for field in fields]
    return pa.schema([*columns, *_LINEAGE])


def to_ipc(batch: pa.RecordBatch) -> bytes:
    """Return a batch as an Arrow IPC stream."""
    return b"".join(ipc_parts(batch))


def ipc_parts(batch: pa.RecordBatch) -> list[bytes | memoryview]:
    """Return the parts of a batch as an Arrow IPC stream, whose bytes lie one behind another in it."""
    # The bytes that Arrow's own writer makes: that grows a buffer, and copies it each time.
    return [memoryview(batch.schema.serialize()), memoryview(batch.serialize()), _END_OF_STREAM]


def from_ipc(data: bytes, sent_ms: int | None = None) -> pa.RecordBatch:
    """Return the batch of an Arrow IPC stream. Raises BatchInvalid when the bytes are no stream of one sound batch.

    Rows of before event times were kept get `sent_ms`: when the message that carries them was written, in milliseconds
    since the epoch. Without it, or when that is no time after the epoch, theirs is null.
    """
    try:
        with pa.ipc.open_stream(data) as reader:
            batches = list(reader)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BatchInvalid(f"expected an Arrow IPC stream, got {len(data)} bytes that are none: {error}") from error
    if len(batches) != 1:
        raise BatchInvalid(f"expected an Arrow IPC stream of one batch, got {len(batches)}")
    batch = batches[0]
    try:
        # The bytes come from a topic: lengths and offsets must not lead outside of them.
        batch.validate(full=True)
        batch.schema.names  # noqa: B018  # raises when a name is no UTF-8, which validate does not look at
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise BatchInvalid(f"expected a sound Arrow batch: {error}") from error
    sent_us = (sent_ms or 0) * 1000
    return timed(batch, sent_us if 0 < sent_us <= LAST_US else None)


def timed(batch: pa.RecordBatch, time_us: int | None = None) -> pa.RecordBatch:
    """Return a batch with event times: its own, or this one for every row when it is of before they were kept."""
    if batch.schema.names[-1:] != [INDEX]:
        return batch
    times = pa.repeat(pa.scalar(time_us, TIME_TYPE), batch.num_rows)
    return batch.append_column(_LINEAGE[-1], times)


def evolved(batch: pa.RecordBatch, fields: Sequence[Field]) -> pa.RecordBatch:
    """Return a batch of before some of these fields were there or as wide as they are: nulls, and wider numbers.

    What is not like that is left as it is, for `require_columns` to name.
    """
    expected = arrow_schema(fields)
    if batch.schema.names == expected.names and batch.schema.types == expected.types:
        return batch
    missing = [field for field in expected if field.name not in batch.schema.names]
    if len(set(batch.schema.names)) != batch.num_columns or not all(field.nullable for field in missing):
        return batch
    columns, kept = [], [name for name in batch.schema.names if name not in expected.names]
    if kept or [name for name in expected.names if name in batch.schema.names] != batch.schema.names:
        return batch
    for field in expected:
        column = pa.nulls(batch.num_rows, field.type) if field in missing else batch.column(field.name)
        columns.append(_widened(column, field.type))
    return pa.RecordBatch.from_arrays(columns, names=expected.names)


def _widened(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    try:
        return column.cast(wanted) if widens(column.type, wanted) else column
    except pa.ArrowException as error:
        raise BatchInvalid(f"expected numbers that {wanted} holds: {error}") from error


def widens(narrow: pa.DataType, wide: pa.DataType) -> bool:
    """Return whether a number type, or one of lists of as many numbers, holds every value of another one."""
    if pa.types.is_fixed_size_list(narrow) and pa.types.is_fixed_size_list(wide):
        return narrow.list_size == wide.list_size and widens(narrow.value_type, wide.value_type)
    if pa.types.is_integer(narrow) and narrow.bit_width > 32 and pa.types.is_floating(wide):
        return False  # float64 has 53 bits for digits
    plain = [one for one in (narrow, wide) if pa.types.is_integer(one) or pa.types.is_floating(one)]
    return len(plain) == 2 and narrow != wide and np.can_cast(narrow.to_pandas_dtype(), wide.to_pandas_dtype())


def require_columns(batch: pa.RecordBatch, fields: Sequence[Field]) -> None:
    """Raise BatchInvalid unless a batch has exactly the columns of these fields, without nulls where none may be."""
    expected = arrow_schema(fields)
    if batch.schema.names != expected.names:
        raise BatchInvalid(f"expected the columns {expected.names}, got {batch.schema.names}")
    for field, column in zip(expected, batch.columns, strict=True):
        if column.type != field.type:
            raise BatchInvalid(f"expected column {field.name!r} of type {field.type}, got {column.type}")
        if column.null_count and not field.nullable:
            raise BatchInvalid(f"expected no null in column {field.name!r}, got {column.null_count}")
    _require_times(batch)


def _require_times(batch: pa.RecordBatch) -> None:
    """Raise BatchInvalid for a time that Python has no name for: whoever shows the row would fail."""
    ends = pc.min_max(batch.column(TIME).cast(pa.int64())).as_py()
    wrong = [time for time in ends.values() if time is not None and not FIRST_US <= time <= LAST_US]
    if wrong:
        raise BatchInvalid(f"expected times of the years 1 to 9999 in column {TIME!r}, got {wrong[0]} microseconds")


def elements(batch: pa.RecordBatch, field: Field) -> npt.NDArray[Any]:
    """Return the elements of a numeric field, shape [rows, field.size]; the elements of a null are arbitrary."""
    column = batch.column(field.name)
    flat = (
        column.values[column.offset * field.size : (column.offset + len(column)) * field.size]
        if field.shape
        else column
    )
    if flat.null_count:
        flat = flat.fill_null(0)
    array: npt.NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return array.reshape(len(column), field.size)


def blank(texts: pa.Array) -> pa.Array:
    """Return which texts are empty or consist of white space, as Python's `str.strip` has it; null of null."""
    return pc.equal(pc.utf8_trim_whitespace(texts), _NOTHING)


def place_of(batch: pa.RecordBatch, column: str, value: Any) -> str:
    """Return where the first row with a value in a column came from, in words, and the value in short."""
    row = pc.index(batch.column(column), value).as_py()
    partition, offset = (batch.column(name)[row].as_py() for name in (PARTITION, OFFSET))
    shown = repr(value)
    return f"at partition {partition}, offset {offset}: {shown if len(shown) <= 60 else shown[:60] + '…'}"


def lineage(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return the partitions, offsets and indexes of a batch's rows."""
    partitions, offsets, indexes = (batch.column(name).to_numpy() for name in (PARTITION, OFFSET, INDEX))
    return partitions, offsets, indexes


def times_of(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the event times of a batch's rows in microseconds since the epoch; `NO_TIME` of rows that have none."""
    if TIME not in batch.schema.names:
        return np.full(len(batch), NO_TIME)
    times: npt.NDArray[np.int64] = pc.fill_null(batch.column(TIME).cast(pa.int64()), NO_TIME).to_numpy()
    return times
