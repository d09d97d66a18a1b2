"""Columns built from decoded JSON values.

A column takes the values of many records at once, which is fast, and says no when any of them is wrong. A single value
that was refused is then looked at again, which is slow, and names the fault.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from types import NoneType
from typing import Any, Final, Protocol

import numpy as np
import numpy.ma  # Arrow looks for masked arrays, and would import them while the first records wait.
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import arrow_type
from headrace_data.describing import describe
from headrace_data.spec import Field

LARGEST_FLOAT64: Final = 1e250
"""The largest size of a float64 that is taken: differences and sums of any number of them are finite."""
LARGEST_SQUARED: Final = 1e100
"""The same where values are squared, for a deviation, or summed up for a mean."""
_NONE: Final[npt.NDArray[np.bool_]] = np.empty(0, dtype=np.bool_)


@dataclass(frozen=True)
class Fault:
    """Why a value is refused: the rule it breaks, and what was expected and what came."""

    rule: str
    reason: str


@dataclass(frozen=True)
class Piece:
    """The values of some records in one column."""

    values: Any
    """An array of elements, or a list of texts."""
    nulls: npt.NDArray[np.bool_]
    """Which records have null; their elements are zeros."""


class Column(Protocol):
    """Reads one field's values. Holds no values itself."""

    def read(self, values: list[Any], *, booleans: bool = True) -> Piece | None:
        """Return the values of some records, at least one; None when any of them is wrong.

        `booleans` tells whether any may be among them. When none is, whole numbers need no look at each.
        """

    def fault(self, value: object) -> Fault | None:
        """Return what is wrong with one value; None when `read` takes it."""

    def build(self, pieces: Sequence[Piece]) -> pa.Array:
        """Return the column of all pieces in order."""


def plain(value: Any) -> Any:
    """Return a value that a decoder made as JSON has it: a list in place of an array of floats."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def column_for(field: Field) -> Column:
    """Return the column of a field."""
    if field.type == "string":
        return _TextColumn(field)
    return _ArrayColumn(field) if field.shape else _NumberColumn(field)


class _Numbers:
    """Converts Python numbers to one element type."""

    def __init__(self, field: Field) -> None:
        self._type = field.type
        self._dtype = field.dtype
        self._is_float = field.dtype.kind == "f"
        self._is_bool = field.type == "bool"
        self._code = "d" if self._is_float else field.dtype.char
        """What numbers are first packed as; only then it shows whether a float32 can hold them."""
        self._holds_bytes = not self._is_bool and np.can_cast(np.uint8, field.dtype)
        self._types = {bool} if field.type == "bool" else {int, float} if self._is_float else {int}
        self.blank = False if field.type == "bool" else 0
        """What stands in for null: an element of the right Python type."""

    def convert(self, values: list[Any], *, booleans: bool = True) -> npt.NDArray[np.generic] | None:
        """Return the values as one array, or None when any is no number of this type. `booleans`: see `Column.read`."""
        # type() and not isinstance: to Python, True is an integer.
        if (booleans or self._is_bool) and not set(map(type, values)) <= self._types:
            return None
        if self._is_bool:
            return np.array(values, np.bool_)
        return self._packed([values], len(values))

    def convert_arrays(self, arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.generic] | None:
        """Return the values of several arrays of floats as one array, or None, as `convert` does."""
        return self._floats(np.concatenate(arrays)) if self._is_float else None

    def convert_lists(self, lists: list[Any], size: int, *, booleans: bool) -> npt.NDArray[np.generic] | None:
        """Return the values of several lists of a size as one array, or None, as `convert` does."""
        if booleans or self._is_bool or set(map(type, lists)) != {list}:
            return self.convert(list(chain.from_iterable(lists)), booleans=booleans)
        return self._packed(lists, size)

    def _packed(self, lists: list[list[Any]], size: int) -> npt.NDArray[np.generic] | None:
        """Return values among which no boolean is. Of all else that JSON has, this takes nothing but numbers."""
        # Whole numbers that fit into a byte, as those of images do, become an array faster than others.
        if self._holds_bytes:
            with suppress(TypeError, ValueError):
                return np.frombuffer(b"".join(map(bytes, lists)), np.uint8).astype(self._dtype)
        pack = struct.Struct(f"{size}{self._code}").pack
        try:
            data = b"".join([pack(*values) for values in lists])
        except struct.error:
            return None
        array = np.frombuffer(data, self._code)
        return self._floats(array) if self._is_float else array

    def _floats(self, array: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.generic] | None:
        # Formats other than JSON have NaNs that NumPy warns of when it computes with them.
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = array.astype(self._dtype)
            # Adding zero turns -0.0 into 0.0, so that equal values have equal bytes.
            rounded += 0.0
        sound = np.isfinite(rounded) if self._dtype == np.float32 else np.abs(rounded) <= LARGEST_FLOAT64
        return rounded if sound.all() else None

    def fault(self, value: object) -> Fault | None:
        """Return what is wrong with one value."""
        if type(value) not in self._types:
            return Fault("type", f"expected a value of type {self._type}, got {describe(value)}")
        if self.convert([value]) is None:
            if self._type == "float64":
                largest = f"a value of at most {LARGEST_FLOAT64:g} in size"
                return Fault("overflow", f"expected {largest}, so that it can be scaled, got {describe(value)}")
            return Fault("overflow", f"expected a value that {self._type} can hold, got {describe(value)}")
        return None


class _NumberColumn:
    """Single numbers."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._numbers = _Numbers(field)

    def read(self, values: list[Any], *, booleans: bool = True) -> Piece | None:
        filled, nulls = _fill(values, self._numbers.blank, self._field)
        array = self._numbers.convert(filled, booleans=booleans)
        return None if array is None else Piece(array, nulls)

    def fault(self, value: object) -> Fault | None:
        return _null_fault(self._field) if value is None else self._numbers.fault(value)

    def build(self, pieces: Sequence[Piece]) -> pa.Array:
        return pa.array(_joined(pieces, self._field), type=arrow_type(self._field), mask=_mask(pieces))


class _ArrayColumn:
    """Arrays of one shape, as nested lists or as one flat list, or as a flat array of floats."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._numbers = _Numbers(field)
        self._blank = [self._numbers.blank] * field.size
        self._zeros = np.zeros(field.size, np.float32)

    def read(self, values: list[Any], *, booleans: bool = True) -> Piece | None:
        if np.ndarray in set(map(type, values)):
            filled, nulls = _fill(values, self._zeros, self._field)
            if set(map(type, filled)) == {np.ndarray} and set(map(len, filled)) == {self._field.size}:
                together = self._numbers.convert_arrays(filled)
                return None if together is None else Piece(together, nulls)
            values = list(map(plain, values))
        filled, nulls = _fill(values, self._blank, self._field)
        lists, size = self._lists(filled)
        array = self._numbers.convert_lists(lists, size, booleans=booleans) if size else None
        return None if array is None else Piece(array, nulls)

    def _lists(self, values: list[Any]) -> tuple[list[Any], int]:
        """Return the innermost lists of all values and their size; 0 when values differ in form or have a wrong one.

        What is no list where one should be either has no length, or consists of texts, which are no numbers.
        """
        level = values
        for depth, dimension in enumerate(self._field.shape):
            try:
                lengths = set(map(len, level))
            except TypeError:
                return [], 0
            if depth == 0 and lengths == {self._field.size} and not isinstance(next(iter(level[0])), list):
                return level, self._field.size
            if lengths != {dimension}:
                return [], 0
            if depth < len(self._field.shape) - 1:
                level = list(chain.from_iterable(level))
        return level, self._field.shape[-1]

    def fault(self, value: object) -> Fault | None:
        if value is None:
            return _null_fault(self._field)
        flat = self._flatten_one(plain(value))
        if isinstance(flat, Fault):
            return flat
        faults = ((position, self._numbers.fault(element)) for position, element in enumerate(flat))
        return next((Fault(fault.rule, f"element {at}: {fault.reason}") for at, fault in faults if fault), None)

    def _flatten_one(self, value: object) -> list[Any] | Fault:
        shape = list(self._field.shape)
        wanted = f"shape {shape}" if len(shape) == 1 else f"shape {shape}, or {self._field.size} numbers in one list"
        if not isinstance(value, list):
            return Fault("type", f"expected {wanted}, got {describe(value)}")
        if len(value) == self._field.size and not any(isinstance(element, list) for element in value):
            return value
        level: list[Any] = [value]
        for depth, dimension in enumerate(shape):
            for part in level:
                if not isinstance(part, list) or len(part) != dimension:
                    return Fault("shape", f"expected {wanted}, got {describe(part)} in dimension {depth}")
            level = list(chain.from_iterable(level))
        return level

    def build(self, pieces: Sequence[Piece]) -> pa.Array:
        mask = _mask(pieces)
        return pa.FixedSizeListArray.from_arrays(
            pa.array(_joined(pieces, self._field)),
            type=arrow_type(self._field),
            mask=None if mask is None else pa.array(mask),
        )


class _TextColumn:
    """Single texts."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._types = {str, NoneType} if field.nullable else {str}
        self._may_be_blank = field.nullable

    def read(self, values: list[Any], *, booleans: bool = True) -> Piece | None:
        # Arrow finds the nulls of texts by itself.
        if not set(map(type, values)) <= self._types:
            return None
        # A text is blank when nothing is left of it without its blanks.
        return Piece(values, _NONE) if self._may_be_blank or all(map(str.strip, values)) else None

    def fault(self, value: object) -> Fault | None:
        if value is None:
            return _null_fault(self._field)
        if not isinstance(value, str):
            return Fault("type", f"expected a string, got {describe(value)}")
        if not self._may_be_blank and not value.strip():
            wanted = "a category" if self._field.role == "feature" else "a value"
            return Fault("missing", f"expected {wanted}, got {'a blank' if value else 'an empty'} text")
        return None

    def build(self, pieces: Sequence[Piece]) -> pa.Array:
        return pa.array(list(chain.from_iterable(piece.values for piece in pieces)), type=pa.string())


def _fill(values: list[Any], blank: object, field: Field) -> tuple[list[Any], npt.NDArray[np.bool_]]:
    """Return values with a blank for each null that the field may have, and where those are."""
    if not field.nullable:
        return values, _NONE
    nulls = np.array([value is None for value in values], dtype=np.bool_)
    return [blank if value is None else value for value in values] if nulls.any() else values, nulls


def _joined(pieces: Sequence[Piece], field: Field) -> npt.NDArray[np.generic]:
    return np.concatenate([np.empty(0, field.dtype), *(piece.values for piece in pieces)])


def _mask(pieces: Sequence[Piece]) -> npt.NDArray[np.bool_] | None:
    """Return where the nulls are, or None when there is none."""
    mask = np.concatenate([_NONE, *(piece.nulls for piece in pieces)])
    return mask if mask.any() else None


def _null_fault(field: Field) -> Fault | None:
    return None if field.nullable else Fault("missing", "expected a value, got none")
