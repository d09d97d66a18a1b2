"""Tensors of the Open Inference Protocol: JSON rows in, numpy arrays between, raw bytes on the wire.

Raw contents are little-endian and row-major; BYTES is each element's length as uint32 followed by the element. A
missing value is null in a row, NaN in an array of numbers, and None, NaN or the empty text in an array of texts.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from headrace_client.errors import AnswerInvalid, InputInvalid, RowProblem, RowsInvalid

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
"""The protocol's data types as numpy ones; BYTES holds str or bytes objects."""

MISSING: dict[str, float | str] = {"FP16": float("nan"), "FP32": float("nan"), "FP64": float("nan"), "BYTES": ""}
"""What stands for a missing value, by data type."""
_FLAGS: Final = (np.dtype("<u1"), np.dtype("<f8"))
"""How a schema's booleans are served, as 1 and 0, the second where they may be missing; rows may say true and false."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """Name, data type (`FP32` …) and shape of a tensor; the first dimension counts rows, -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool | None = None
    """Whether it may be missing; None when the server does not say."""
    labels: tuple[str, ...] = ()
    """What the places of its last dimension stand for, such as classes; none when the server does not say."""
    steps: tuple[str, ...] = ()
    """What those of the dimension behind the rows stand for, such as steps of a forecast; none when it says none."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.shape[1:]


def arrays_from_rows(rows: Sequence[Mapping[str, Any]], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return one array per input, first dimension len(rows); fields that are no input are left out.

    Null, or no such field, stands for a missing value where the input is optional; null also where that is not known
    and the data type has a missing value, so that the server decides. Raises RowsInvalid with every problem of every
    row.
    """
    problems: list[RowProblem] = []
    columns: dict[str, list[Array]] = {tensor.name: [] for tensor in inputs}
    for number, row in enumerate(rows, start=1):
        for tensor in inputs:
            try:
                columns[tensor.name].append(_row_array(row, tensor))
            except ValueError as error:
                problems.append(RowProblem(number, tensor.name, str(error)))
            except RecursionError:
                problems.append(RowProblem(number, tensor.name, "it is nested too deep"))
    if not problems:
        problems = [problem for tensor in inputs for problem in _unequal_shapes(tensor.name, columns[tensor.name])]
    if problems:
        raise RowsInvalid(problems)
    return {name: np.stack(column) for name, column in columns.items()}


def _row_array(row: Mapping[str, Any], tensor: TensorSpec) -> Array:
    if tensor.name not in row and not tensor.optional:
        raise ValueError(f"missing; the row has {', '.join(sorted(row)) or 'no field at all'}")
    value = row.get(tensor.name)
    if value is None and tensor.optional is not False and tensor.datatype in MISSING and -1 not in tensor.row_shape:
        return np.full(tensor.row_shape, MISSING[tensor.datatype], dtype=DTYPES[tensor.datatype])
    if tensor.row_shape == (1,) and not isinstance(value, list):
        value = [value]  # a single number stands for a vector of one
    shape = _shape_of(value)
    fits = len(shape) == len(tensor.row_shape) and all(
        wanted in (-1, size) for size, wanted in zip(shape, tensor.row_shape, strict=True)
    )
    if not fits:
        raise ValueError(f"expected {_shape_text(tensor.row_shape)}, got {_shape_text(shape)}")
    return _typed_array(value, tensor.datatype, shape)


def _shape_of(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    if not value:
        return (0,)
    shapes = [_shape_of(item) for item in value]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"ragged: item [{index}] is {_shape_text(shape)}, but item [0] is {_shape_text(shapes[0])}"
            )
    return (len(value), *shapes[0])


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"shape [{', '.join(str(size) if size >= 0 else 'any' for size in shape)}]" if shape else "a single value"


def _typed_array(value: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    dtype = _dtype(datatype)
    flat = _flat(value)
    for position, item in enumerate(flat):
        if problem := _element_problem(item, dtype):
            where = f"item {[int(part) for part in np.unravel_index(position, shape)]}: " if shape else ""
            raise ValueError(f"{where}expected {_kind_text(datatype, dtype)}, got {problem}")
    array = np.empty(len(flat), dtype=dtype)
    array[:] = flat
    return array.reshape(shape)


def _dtype(datatype: str) -> np.dtype[Any]:
    if datatype not in DTYPES:
        raise ValueError(f"the model wants data type {datatype}, which this client cannot build")
    return DTYPES[datatype]


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [item for part in value for item in _flat(part)]


def _element_problem(item: Any, dtype: np.dtype[Any]) -> str:
    """Return what came instead of an element of dtype; empty when it is one."""
    if dtype.kind == "O":
        if isinstance(item, str) and not _is_whole(item):
            return "half of a surrogate pair"
        fits = isinstance(item, str)
    elif isinstance(item, bool) and dtype in _FLAGS:
        fits = True
    elif dtype.kind == "b":
        fits = isinstance(item, bool)
    elif dtype.kind == "f":
        limit = float(np.finfo(dtype).max)
        fits = isinstance(item, int | float) and not isinstance(item, bool) and -limit <= item <= limit
    else:
        bounds = np.iinfo(dtype)
        fits = isinstance(item, int) and not isinstance(item, bool) and bounds.min <= item <= bounds.max
    return "" if fits else _json_text(item)


def _is_whole(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _json_text(item: Any) -> str:
    if item is None or isinstance(item, bool):
        return {None: "null", True: "true", False: "false"}[item]
    if isinstance(item, dict):
        return "an object"
    text = repr(item)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _kind_text(datatype: str, dtype: np.dtype[Any]) -> str:
    words = {"O": "a string", "b": "true or false", "f": "a number", "i": "a whole number", "u": "a whole number"}
    return f"{words[dtype.kind]} ({datatype})"


def _unequal_shapes(name: str, column: Sequence[Array]) -> list[RowProblem]:
    first = column[0].shape if column else ()
    return [
        RowProblem(number, name, f"{_shape_text(array.shape)}, but row 1 has {_shape_text(first)}")
        for number, array in enumerate(column, start=1)
        if array.shape != first
    ]


def to_raw(array: Array, datatype: str) -> bytes:
    """Return an array's raw contents; raise InputInvalid when the data type is not one of DTYPES."""
    if datatype not in DTYPES:
        raise InputInvalid(f"data type {datatype} is not one of {', '.join(DTYPES)}")
    if datatype != "BYTES":
        return np.ascontiguousarray(array, dtype=DTYPES[datatype]).tobytes()
    encoded = [_encoded(item) for item in array.ravel().tolist()]
    return b"".join(struct.pack("<I", len(item)) + item for item in encoded)


def _encoded(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        if not _is_whole(item):
            raise InputInvalid(f"expected texts, got one with half of a surrogate pair: {_json_text(item)}")
        return item.encode()
    # Libraries of tables have either for a text that is missing.
    if item is None or (isinstance(item, float) and math.isnan(item)):
        return b""
    raise InputInvalid(f"expected texts in an array of objects, got {_json_text(item)}")


def numbers_of(array: Array) -> Array:
    """Return an array of Python numbers, None among them, as FP64 with NaN; any other array as it is."""
    if array.dtype.kind != "O":
        return array
    items = array.ravel().tolist()
    numbers = [isinstance(item, int | float) and not isinstance(item, bool) for item in items]
    given = [number or item is None for number, item in zip(numbers, items, strict=True)]
    some = any(number and item == item for number, item in zip(numbers, items, strict=True))
    return array.astype(np.float64) if all(given) and some else array


def from_raw(raw: bytes, datatype: str, shape: Sequence[int]) -> Array:
    """Return the array of raw contents; BYTES elements that are UTF-8 become str. Raises AnswerInvalid."""
    if datatype not in DTYPES:
        raise AnswerInvalid(f"data type {datatype} is not one of {', '.join(DTYPES)}")
    try:
        if datatype != "BYTES":
            return np.frombuffer(raw, dtype=DTYPES[datatype]).reshape(tuple(shape))
        array = np.empty(int(np.prod(tuple(shape), dtype=np.int64)), dtype=object)
        array[:] = _split_bytes(raw)
        return array.reshape(tuple(shape))
    except (ValueError, struct.error) as error:
        raise AnswerInvalid(f"{len(raw)} bytes do not hold {datatype} of shape {list(shape)}") from error


def _split_bytes(raw: bytes) -> list[str | bytes]:
    items: list[str | bytes] = []
    position = 0
    while position < len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        item = raw[position : position + length]
        if len(item) != length:
            raise ValueError("truncated")
        position += length
        try:
            items.append(item.decode())
        except UnicodeDecodeError:
            items.append(item)
    return items
