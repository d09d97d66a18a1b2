"""Tensors as they travel in the Open Inference Protocol, and the arrays that they stand for.

Raw contents are little-endian and row-major; an element of BYTES is its length as a little-endian 32-bit number, then
itself. Typed contents are lists, one field for each family of data types. A missing number is NaN, a missing text is
empty.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from headrace_runtime.errors import InvalidInput

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Datatype:
    """A data type of the protocol: its name, the numpy type, and the typed field (None: raw contents only)."""

    name: str
    dtype: np.dtype[Any]
    typed_field: str | None


def _datatype(name: str, dtype: str, typed_field: str | None) -> Datatype:
    return Datatype(name, np.dtype(dtype), typed_field)


BYTES = _datatype("BYTES", "O", "bytes_contents")
BOOL = _datatype("BOOL", "?", "bool_contents")
DATATYPES = {
    datatype.name: datatype
    for datatype in (
        BOOL,
        _datatype("INT8", "i1", "int_contents"),
        _datatype("INT16", "<i2", "int_contents"),
        _datatype("INT32", "<i4", "int_contents"),
        _datatype("INT64", "<i8", "int64_contents"),
        _datatype("UINT8", "u1", "uint_contents"),
        _datatype("UINT16", "<u2", "uint_contents"),
        _datatype("UINT32", "<u4", "uint_contents"),
        _datatype("UINT64", "<u8", "uint64_contents"),
        _datatype("FP16", "<f2", None),
        _datatype("FP32", "<f4", "fp32_contents"),
        _datatype("FP64", "<f8", "fp64_contents"),
        BYTES,
    )
}
"""Every data type that models here may have, by name."""


@dataclass(frozen=True, slots=True)
class InputTensor:
    """One input as it was sent: `typed` holds the typed fields that are not empty, by the field's name."""

    name: str
    datatype: str
    shape: Shape
    typed: Sequence[tuple[str, Sequence[Any]]] = ()


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output, encoded as raw contents."""

    name: str
    datatype: str
    shape: Shape
    raw: bytes


def decode_raw(name: str, datatype: Datatype, shape: Shape, raw: bytes) -> Array:
    """Return raw contents as an array of `shape`, without a copy where that is possible. Raises InvalidInput."""
    if datatype is BYTES:
        return _strings(name, _split_bytes(name, shape, raw)).reshape(shape)
    expected = prod(shape) * datatype.dtype.itemsize
    if len(raw) != expected:
        raise InvalidInput(
            f"input {name!r}: expected {expected} bytes of raw contents for {datatype.name} {list(shape)}, "
            f"got {len(raw)}"
        )
    if datatype is BOOL and raw.strip(b"\x00\x01"):
        raise InvalidInput(f"input {name!r}: expected bytes 0 and 1 in raw contents of type BOOL, got others")
    return np.frombuffer(raw, datatype.dtype).reshape(shape)


def decode_typed(name: str, datatype: Datatype, shape: Shape, typed: Sequence[tuple[str, Sequence[Any]]]) -> Array:
    """Return typed contents as an array of `shape`. Raises InvalidInput."""
    if datatype.typed_field is None:
        raise InvalidInput(f"input {name!r}: expected raw contents, {datatype.name} has no typed ones")
    strangers = [field for field, _ in typed if field != datatype.typed_field]
    if strangers:
        raise InvalidInput(f"input {name!r}: expected {datatype.name} in {datatype.typed_field}, got {strangers[0]}")
    values: Sequence[Any] = typed[0][1] if typed else ()
    if len(values) != prod(shape):
        raise InvalidInput(
            f"input {name!r}: expected {prod(shape)} values in {datatype.typed_field} for shape {list(shape)}, "
            f"got {len(values)}"
        )
    if datatype is BYTES:
        return _strings(name, values).reshape(shape)
    try:
        return np.array(values, datatype.dtype).reshape(shape)
    except OverflowError as error:
        raise InvalidInput(f"input {name!r}: expected values within {datatype.name}: {error}") from error


def with_known_gaps(name: str, array: Array, *, optional: bool) -> Array:
    """Return an input's array with every missing number as the same NaN, and every missing text empty.

    NaN has many bit patterns that mean the same, and a text may be blank in many ways; with one of each, equal inputs
    have equal bytes. Raises InvalidInput where none may be missing.
    """
    if array.dtype.kind == "f":
        missing = np.isnan(array)
        if not missing.any():
            return array
        if optional:
            return np.where(missing, array.dtype.type(np.nan), array)
        raise InvalidInput(_gap(name, "a number", "NaN", missing))
    if array.dtype == object:
        texts = array.ravel().tolist()
        # A text is blank when nothing is left of it without its blanks, as in records.
        if not optional and not all(map(str.strip, texts)):
            blank = np.array([not text.strip() for text in texts]).reshape(array.shape)
            raise InvalidInput(_gap(name, "a text", "an empty one" if not array[blank][0] else "a blank one", blank))
        if optional and any(map(str.isspace, texts)):
            known = np.empty(len(texts), dtype=object)
            known[:] = ["" if text.isspace() else text for text in texts]
            return known.reshape(array.shape)
    return array


def _gap(name: str, wanted: str, got: str, missing: Array) -> str:
    element = [int(place) for place in np.argwhere(missing)[0]]
    return f"input {name!r}: expected {wanted} in element {element}, got {got}: this feature may not be missing"


def encode_raw(array: Array, datatype: Datatype) -> bytes:
    """Return an array as raw contents; an array of strings becomes BYTES in UTF-8."""
    if datatype is not BYTES:
        return array.astype(datatype.dtype, copy=False).tobytes()
    items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    return b"".join(part for item in items for part in (_LENGTH.pack(len(item)), item))


def decode_output(tensor: OutputTensor) -> list[Any]:
    """Return an output's values in row-major order: numbers, booleans, or bytes for BYTES."""
    if tensor.datatype == BYTES.name:
        return _split_bytes(tensor.name, tensor.shape, tensor.raw)
    values: list[Any] = np.frombuffer(tensor.raw, DATATYPES[tensor.datatype].dtype).tolist()
    return values


def _split_bytes(name: str, shape: Shape, raw: bytes) -> list[bytes]:
    items: list[bytes] = []
    position, expected = 0, prod(shape)
    # No further than one too many: millions of empty ones fit into a call.
    while position < len(raw) and len(items) <= expected:
        start = position + _LENGTH.size
        if start > len(raw):
            raise InvalidInput(f"input {name!r}: expected a 4-byte length at byte {position} of {len(raw)}")
        position = start + _LENGTH.unpack_from(raw, position)[0]
        if position > len(raw):
            raise InvalidInput(
                f"input {name!r}: expected element {len(items)} to end by byte {len(raw)}, got {position}"
            )
        items.append(raw[start:position])
    if len(items) != expected:
        got = "more" if len(items) > expected else len(items)
        raise InvalidInput(f"input {name!r}: expected {expected} elements of BYTES for shape {list(shape)}, got {got}")
    return items


def _strings(name: str, items: Sequence[bytes]) -> Array:
    array = np.empty(len(items), object)
    for position, item in enumerate(items):
        try:
            array[position] = item.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"input {name!r}: expected UTF-8 in element {position}, got other bytes") from error
    return array
