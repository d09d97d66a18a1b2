"""Lists of floats in Avro, as arrays: a block of them is its bytes, which fastavro makes a list of Python's numbers of.

Only values that are sound are read here. All others are left to fastavro, which decides, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from io import BytesIO
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_CODES: Final = {"float": "<f4", "double": "<f8"}
_PLAIN: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_LONGEST: Final = 63
"""Bits by which the last byte of a number is shifted at most."""

Quick = Callable[[bytes], dict[str, Any] | None]
"""Makes a row of the bytes of one value; None where fastavro has to."""
_Part = Callable[[BytesIO], Mapping[str, Any]]


def floats_reader(record: Mapping[str, Any], names: Collection[str]) -> Quick | None:
    """Return what reads values of a record with arrays for those of these fields that are lists of floats.

    `record` is as fastavro has parsed it. None where no field is one, or where types have names: one that is told in
    one part of the record may be used in another.
    """
    fields = record["fields"]
    if not all(_has_no_names(field["type"]) for field in fields):
        return None
    codes = {field["name"]: code for field in fields if field["name"] in names and (code := _code(field["type"]))}
    if not codes:
        return None
    parts = list(_parts(fields, codes))

    def read(value: bytes) -> dict[str, Any] | None:
        data = BytesIO(value)
        row: dict[str, Any] = {}
        try:
            for part in parts:
                row.update(part(data))
        except MemoryError:
            raise
        except Exception:
            return None
        return row if data.tell() == len(value) else None

    return read


def _has_no_names(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(_has_no_names, schema))
    if isinstance(schema, str):
        return schema in _PLAIN
    match schema["type"]:
        case "array":
            return _has_no_names(schema["items"])
        case "map":
            return _has_no_names(schema["values"])
        case inner:
            return inner in _PLAIN if isinstance(inner, str) else _has_no_names(inner)


def _code(schema: Any) -> str | None:
    """Return NumPy's name of what a list holds; None where a type is no list of floats."""
    if not isinstance(schema, dict) or schema["type"] != "array" or not isinstance(schema["items"], str):
        return None
    return _CODES.get(schema["items"])


def _parts(fields: list[Mapping[str, Any]], codes: Mapping[str, str]) -> Iterator[_Part]:
    """Yield what reads each list of floats, and the fields before, between and behind them."""
    for is_array, some in groupby(fields, key=lambda field: field["name"] in codes):
        if is_array:
            yield from (_array(field["name"], codes[field["name"]]) for field in some)
        else:
            yield _others(list(some))


def _others(fields: list[Mapping[str, Any]]) -> _Part:
    import fastavro

    schema = fastavro.parse_schema({"type": "record", "name": "Part", "fields": fields})
    return lambda data: fastavro.schemaless_reader(data, schema, None)  # type: ignore[return-value]


def _array(name: str, code: str) -> _Part:
    width = int(code[-1])

    def read(data: BytesIO) -> dict[str, npt.NDArray[np.floating[Any]]]:
        blocks: list[bytes] = []
        while count := _long(data):
            if count < 0:
                count = -count
                _long(data)  # the size of the block in bytes
            block = data.read(count * width)
            if len(block) != count * width:
                raise EOFError
            blocks.append(block)
        if not blocks:
            raise EOFError
        return {name: np.frombuffer(b"".join(blocks), code)}

    return read


def _long(data: BytesIO) -> int:
    """Return the zigzag-encoded number that comes next."""
    found = shift = 0
    while True:
        (byte,) = data.read(1)
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (found >> 1) ^ -(found & 1)
        shift += 7
        if shift > _LONGEST:
            raise OverflowError
