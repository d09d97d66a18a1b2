"""The canonical bytes of rows: what their hashes are taken of, and so what the ids of datasets rest on.

First every number field in schema order, as one byte (0 null, 1 present) and its elements in little endian, zeros for
null; then every string field in schema order, as one byte and, when present, the length of its UTF-8 bytes as 32 bits
in little endian, and those bytes. With the schema, whose digest goes into the id, two rows with equal bytes are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace_data.batches import elements
from headrace_data.spec import Field

_Bytes = npt.NDArray[np.uint8]
_LENGTH_BYTES = 4


def rows_as_bytes(batch: pa.RecordBatch, fields: Sequence[Field], prefix: bytes = b"") -> list[bytes]:
    """Return the bytes of each row, behind a prefix."""
    texts = [batch.column(field.name) for field in fields if field.type == "string"]
    numbers = _numbers(batch, [field for field in fields if field.type != "string"], prefix)
    if not texts:
        return numbers
    return [number + text for number, text in zip(numbers, _texts(texts, len(batch)), strict=True)]


def _numbers(batch: pa.RecordBatch, fields: Sequence[Field], prefix: bytes) -> list[bytes]:
    parts = [np.tile(np.frombuffer(prefix, np.uint8), (len(batch), 1))]
    for field in fields:
        present = batch.column(field.name).is_valid().to_numpy(zero_copy_only=False)
        values = elements(batch, field).astype(field.dtype.newbyteorder("<"))
        values[~present] = 0
        width = field.size * field.dtype.itemsize
        parts += [present.astype(np.uint8)[:, np.newaxis], values.view(np.uint8).reshape(len(batch), width)]
    rows = np.concatenate(parts, axis=1)
    width, data = rows.shape[1], rows.tobytes()
    return (
        [data[start : start + width] for start in range(0, width * len(batch), width)] if width else [b""] * len(batch)
    )


def _texts(columns: Sequence[pa.Array], count: int) -> list[bytes]:
    """Return the bytes of each row's texts: one buffer for all, into which one column after another is written."""
    lengths = [pc.fill_null(pc.binary_length(column), -1).to_numpy().astype(np.int64) for column in columns]
    takes = [np.where(length < 0, 1, 1 + _LENGTH_BYTES + length) for length in lengths]
    ends = np.cumsum(np.sum(takes, axis=0))
    buffer = np.zeros(int(ends[-1]) if count else 0, dtype=np.uint8)
    starts = np.concatenate([[0], ends[:-1]]) if count else ends
    place = starts.copy()
    for column, length, taken in zip(columns, lengths, takes, strict=True):
        _write_texts(buffer, place, column, length)
        place += taken
    data = buffer.tobytes()
    return [data[start:end] for start, end in pairwise([0, *ends.tolist()])]


def _write_texts(
    buffer: _Bytes, place: npt.NDArray[np.int64], column: pa.Array, lengths: npt.NDArray[np.int64]
) -> None:
    """Write a column's texts, each at its row's place; the byte of a null is the zero that is there."""
    present = lengths >= 0
    place, lengths = place[present], lengths[present]
    buffer[place] = 1
    sizes = lengths.astype("<u4").view(np.uint8).reshape(-1, _LENGTH_BYTES)
    for digit in range(_LENGTH_BYTES):
        buffer[place + 1 + digit] = sizes[:, digit]
    data = _data(column.drop_null())
    # The bytes of all texts follow each other in `data`; each goes as far from there as its text does.
    moved = place + 1 + _LENGTH_BYTES - (np.cumsum(lengths) - lengths)
    buffer[np.repeat(moved, lengths) + np.arange(len(data))] = data


def _data(texts: pa.StringArray) -> _Bytes:
    """Return the UTF-8 bytes of texts without nulls, one after another."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return np.empty(0, dtype=np.uint8)
    # The buffer of a batch that came from elsewhere may be longer than its offsets.
    first, *_, last = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset)
    return np.frombuffer(data, np.uint8)[first:last]
