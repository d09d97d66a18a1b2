"""Avro: what a schema of the producer's reads, by fastavro, as values that JSON has.

Fields are taken by their names: one that the pipeline does not know is ignored, and one that the producer's schema does
not have is missing. Times become texts in ISO 8601, decimals texts of their digits, bytes and fixed texts in base64,
enums their symbols, maps objects; of a union there is the value alone.

What fastavro would not survive, or would build something huge from of few bytes, is refused with the schema: a type
that holds itself, and lists of what takes no byte. All else is bounded by the bytes of the value.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from io import BytesIO
from typing import Any, Final, cast
from uuid import UUID

import orjson

from headrace_data.formats.avro_floats import floats_reader
from headrace_data.formats.decoding import Undecodable
from headrace_data.formats.schemas import Read, Schema, SchemaInvalid

KIND: Final = "avro"
_LEAST_BYTES: Final = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
_ADDRESS: Final = re.compile(r" from <[^<>]* object at 0x[0-9a-f]+>")
"""What fastavro tells of its buffer: equal faults have equal reasons without it."""
_MOST_PARTS: Final = 100_000
"""Most parts of a schema with every type written out where it is used."""


def compile_avro(schema: Schema, floats: Collection[str] = ()) -> Read:
    """Return what reads values of a schema, with arrays for those of `floats` that are lists of floats.

    Raises SchemaInvalid.
    """
    import fastavro

    parsed = _parsed(schema)
    unplain = _Types(parsed.names).fields_to_convert(parsed.record)
    name, record = parsed.record["name"], parsed.record
    quick = floats_reader(record, floats)

    def read(value: bytes) -> dict[str, Any]:
        row = quick(value) if quick else None
        if row is None:
            row = slowly(value)
        for key in unplain:
            row[key] = _plain(row[key])
        return row

    def slowly(value: bytes) -> dict[str, Any]:
        data = BytesIO(value)
        try:
            row = cast("dict[str, Any]", fastavro.schemaless_reader(data, record, None))
        except MemoryError:
            raise
        except Exception as error:
            # Whatever stumbles over such bytes, they are none of the schema.
            told = _ADDRESS.sub("", repr(error))
            raise Undecodable(f"expected a {name} in Avro, got bytes that are none: {told}") from error
        if data.tell() != len(value):
            raise Undecodable(f"expected a {name} in Avro, got {len(value) - data.tell()} bytes behind one")
        return row

    return read


class _Parsed:
    """A schema and the types that it names."""

    def __init__(self, record: dict[str, Any], names: Mapping[str, Any]) -> None:
        self.record = record
        self.names = names


def _parsed(schema: Schema) -> _Parsed:
    import fastavro

    names: dict[str, Any] = {}
    try:
        for text in schema.references.values():
            fastavro.parse_schema(orjson.loads(text), names)
        found = fastavro.parse_schema(orjson.loads(schema.text), names)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise SchemaInvalid(f"expected a schema of Avro, got none: {error!r}") from error
    if not isinstance(found, dict) or found.get("type") != "record":
        raise SchemaInvalid("expected a record of Avro, got another type")
    return _Parsed(found, names)


class _Types:
    """Looks through types: how large they are at least, and what of them JSON does not have."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._known: dict[str, _Type] = {}
        self._inside: list[str] = []

    def fields_to_convert(self, record: Mapping[str, Any]) -> list[str]:
        """Return the fields of a record with values that JSON does not have. Raises SchemaInvalid."""
        try:
            found = self.of(record)
            unplain = [field["name"] for field in record["fields"] if not self.of(field["type"]).is_plain]
        except RecursionError as error:
            raise SchemaInvalid("expected types nested less deep") from error
        except (KeyError, TypeError) as error:
            raise SchemaInvalid(f"expected a schema of Avro, got none: {error!r}") from error
        if found.parts > _MOST_PARTS:
            raise SchemaInvalid(f"expected at most {_MOST_PARTS} parts, got more")
        return unplain

    def of(self, schema: Any) -> _Type:
        """Return what is known of a type."""
        if isinstance(schema, list):
            parts = [self.of(each) for each in schema]
            return _Type(1 + min((part.least for part in parts), default=0), *_joined(parts))
        if isinstance(schema, str):
            return _Type(_LEAST_BYTES[schema], 1, schema != "bytes") if schema in _LEAST_BYTES else self._named(schema)
        match schema["type"]:
            case "record" | "error":
                return self._record(schema)
            case "enum":
                return _Type(1, 1, True)
            case "fixed":
                return _Type(schema["size"], 1, False)
            case "array":
                items = self.of(schema["items"])
                if not items.least:
                    raise SchemaInvalid("expected lists of values that take a byte, got one of such that take none")
                return _Type(1, 1 + items.parts, items.is_plain)
            case "map":
                values = self.of(schema["values"])
                return _Type(1, 1 + values.parts, values.is_plain)
            case inner:
                found = self.of(inner)
                return _Type(found.least, found.parts, found.is_plain and "logicalType" not in schema)

    def _named(self, name: str) -> _Type:
        if name in self._inside:
            raise SchemaInvalid(f"expected types that do not hold themselves, got {name}")
        if name not in self._known:
            self._known[name] = self.of(self._names[name])
        return self._known[name]

    def _record(self, schema: Mapping[str, Any]) -> _Type:
        name = schema["name"]
        self._inside.append(name)
        parts = [self.of(field["type"]) for field in schema["fields"]]
        self._inside.pop()
        self._known[name] = _Type(sum(part.least for part in parts), *_joined(parts))
        return self._known[name]


class _Type:
    """What is known of a type."""

    def __init__(self, least: int, parts: int, is_plain: bool) -> None:
        self.least = least
        """Bytes that a value takes at least."""
        self.parts = parts
        """How many types it consists of."""
        self.is_plain = is_plain
        """Whether JSON has its values."""


def _joined(parts: list[_Type]) -> tuple[int, bool]:
    return 1 + sum(part.parts for part in parts), all(part.is_plain for part in parts)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case UUID():
            return str(value)
        case tuple():  # a duration of months, days and milliseconds
            return [_plain(each) for each in value]
    return value
