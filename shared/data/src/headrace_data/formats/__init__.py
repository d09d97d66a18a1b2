"""Formats: how the bytes of a message become a row of JSON-like values. One file a format, by the spec's `kind`.

Nothing here knows the spec: `headrace_data.decoders` makes a decoder of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from headrace_data.formats.avro import compile_avro
from headrace_data.formats.csv_rows import CsvDecoder
from headrace_data.formats.decoding import Decoded, Decoder, Undecodable
from headrace_data.formats.file_fields import FILES
from headrace_data.formats.image import image_decoder
from headrace_data.formats.json_lines import LinesDecoder
from headrace_data.formats.json_objects import JsonDecoder
from headrace_data.formats.json_schema import JsonSchemaDecoder, compile_json
from headrace_data.formats.protobuf import compile_framed, compile_protobuf
from headrace_data.formats.schemas import BareDecoder, FramedDecoder, Schema, SchemaInvalid, Schemas
from headrace_data.formats.sound import sound_decoder
from headrace_data.formats.text import TextDecoder

__all__ = ["FILES", "FORMATS", "Decoded", "Decoder", "Names", "SchemaInvalid", "Schemas", "Undecodable", "problem_of"]

Told = Mapping[str, Any]
"""What a document tells of a format, by its keys, with defaults."""


@dataclass(frozen=True)
class Names:
    """What is read of a record."""

    all: Sequence[str]
    """Names of values, in the order of the schema."""
    texts: Collection[str]
    """Those that are texts, whatever they look like."""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Shapes of fields that take a value as it is, by the key of the value."""
    floats: Collection[str] = ()
    """Fields that take a one-dimensional array of floats, too, in place of a list of numbers."""


def _json(told: Told, names: Names, _: Schemas | None) -> Decoder:
    decoder = JsonDecoder(names.all)
    return LinesDecoder(decoder) if told.get("lines") else decoder


def _csv(told: Told, names: Names, _: Schemas | None) -> Decoder:
    return CsvDecoder(told.get("columns") or names.all, names.texts, told["delimiter"], told["quote"])


def _avro(told: Told, names: Names, schemas: Schemas | None) -> Decoder:
    if "schema" not in told:
        return FramedDecoder("avro", "AVRO", partial(compile_avro, floats=names.floats), schemas)
    schema = Schema(told["schema"])
    return BareDecoder("avro", compile_avro(schema, names.floats), schema)


def _protobuf(told: Told, _: Names, schemas: Schemas | None) -> Decoder:
    if "schema" not in told:
        return FramedDecoder("protobuf", "PROTOBUF", compile_framed, schemas)
    # All defaults take no byte.
    schema = Schema(told["schema"])
    return BareDecoder("protobuf", compile_protobuf(schema, told.get("message")), schema, takes_none=True)


def _json_schema(told: Told, names: Names, schemas: Schemas | None) -> Decoder:
    if told.get("registry") is None:
        return JsonSchemaDecoder(names.all)
    return FramedDecoder("json-schema", "JSON", compile_json(names.all), schemas)


FORMATS: Final[Mapping[str, Callable[[Told, Names, Schemas | None], Decoder]]] = {
    "json": _json,
    "json-schema": _json_schema,
    "csv": _csv,
    "avro": _avro,
    "protobuf": _protobuf,
    "text": lambda told, _names, _: TextDecoder(told["field"]),
    "image": lambda told, names, _: image_decoder(told, names.shapes),
    "sound": lambda told, names, _: sound_decoder(told, names.shapes),
}
"""What reads the records of a stream, by the kind of its format. Raises SchemaInvalid when its own schema is none."""
_PREPARED: Final[Mapping[str, Callable[[Told], object]]] = {
    "avro": lambda told: compile_avro(Schema(told["schema"])),
    "protobuf": lambda told: compile_protobuf(Schema(told["schema"]), told.get("message")),
}
"""What looks at the schema in a format, by its kind."""


def problem_of(told: Told) -> str:
    """Return what is wrong with the schema in a format as a document tells it; empty where nothing is known to be."""
    prepare = _PREPARED.get(str(told.get("kind")))
    try:
        if prepare is not None:
            prepare(told)
    except SchemaInvalid as error:
        return str(error)
    except ImportError:
        # Who lacks the libraries reads no such records.
        return ""
    return ""
