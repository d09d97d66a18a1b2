"""Lists of floats in Avro, as arrays: a block of them is its bytes, which fastavro makes a list of Python's numbers of.

Only values that are sound are read here. All others are left to fastavro, which decides, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from io import BytesIO
from itertools import groupby
from typing import Any, Final, NamedTuple

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
    # Of two fields of one name, which fastavro takes, one may be a list and the other none.
    if len({field["name"] for field in fields}) < len(fields):
        return None
    if not all(_has_no_names(field["type"]) for field in fields):
        return None
    lists = {field["name"]: found for field in fields if field["name"] in names and (found := _floats(field["type"]))}
    if not lists:
        return None
    parts = list(_parts(fields, lists))

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


class _Floats(NamedTuple):
    """A list of floats."""

    code: str
    """NumPy's name of what it holds."""
    null: int | None = None
    """The place of null, 0 or 1, where that may stand in its stead."""


def _floats(schema: Any) -> _Floats | None:
    """Return what is known of a list of floats; None where a type is none."""
    match schema:
        case {"type": "array", "items": "float" | "double" as items}:
            return _Floats(_CODES[items])
        case ["null", other] | [other, "null"]:
            found = _floats(other)
            return found and _Floats(found.code, schema.index("null"))
    return None


def _parts(fields: list[Mapping[str, Any]], lists: Mapping[str, _Floats]) -> Iterator[_Part]:
    """Yield what reads each list of floats, and the fields before, between and behind them."""
    for is_list, some in groupby(fields, key=lambda field: field["name"] in lists):
        if is_list:
            yield from (_array(field["name"], lists[field["name"]]) for field in some)
        else:
            yield _others(list(some))


def _others(fields: list[Mapping[str, Any]]) -> _Part:
    import fastavro

    schema = fastavro.parse_schema({"type": "record", "name": "Part", "fields": fields})
    return lambda data: fastavro.schemaless_reader(data, schema, None)  # type: ignore[return-value]


def _array(name: str, floats: _Floats) -> _Part:
    width = int(floats.code[-1])

    def read(data: BytesIO) -> dict[str, npt.NDArray[np.floating[Any]] | None]:
        if floats.null is not None and (place := _long(data)) != 1 - floats.null:
            if place == floats.null:
                return {name: None}
            raise IndexError
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
        return {name: np.frombuffer(b"".join(blocks), floats.code)}

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
