"""Formats: how the bytes of a message become a row of JSON-like values. One file a format, by the spec's `kind`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from headrace_data.formats.avro import compile_avro
from headrace_data.formats.csv_rows import CsvDecoder
from headrace_data.formats.decoding import Decoded, Decoder, Undecodable
from headrace_data.formats.json_objects import JsonDecoder
from headrace_data.formats.json_schema import JsonSchemaDecoder
from headrace_data.formats.protobuf import compile_framed, compile_protobuf
from headrace_data.formats.schemas import BareDecoder, FramedDecoder, Schema, SchemaInvalid, Schemas
from headrace_data.formats.text import TextDecoder
from headrace_data.spec import Stream
from headrace_data.spec.formats import AvroFormat, CsvFormat, ProtobufFormat, TextFormat

__all__ = ["FORMATS", "Decoded", "Decoder", "Schemas", "Undecodable", "decoder_of", "problem_of", "schemas_of"]


def _names(stream: Stream) -> list[str]:
    """Return what is read of a record, in order: its fields, and what says when."""
    return list(dict.fromkeys([*(field.name for field in stream.fields), *([stream.time] if stream.time else [])]))


def _csv(stream: Stream, _: Schemas | None) -> Decoder:
    told = stream.told(CsvFormat)
    texts = {field.name for field in stream.fields if field.type == "string"}
    return CsvDecoder(told.columns or _names(stream), texts, told.delimiter, told.quote)


def _avro(stream: Stream, schemas: Schemas | None) -> Decoder:
    told = stream.told(AvroFormat)
    if told.schema_text is None:
        return FramedDecoder("avro", "AVRO", compile_avro, schemas)
    return BareDecoder("avro", compile_avro(Schema(told.schema_text)))


def _protobuf(stream: Stream, schemas: Schemas | None) -> Decoder:
    told = stream.told(ProtobufFormat)
    if told.schema_text is None:
        return FramedDecoder("protobuf", "PROTOBUF", compile_framed, schemas)
    # All defaults take no byte.
    read = compile_protobuf(Schema(told.schema_text), told.message)
    return BareDecoder("protobuf", read, takes_none=True)


FORMATS: Final[Mapping[str, Callable[[Stream, Schemas | None], Decoder]]] = {
    "json": lambda stream, _: JsonDecoder(_names(stream)),
    "json-schema": lambda stream, _: JsonSchemaDecoder(_names(stream)),
    "csv": _csv,
    "avro": _avro,
    "protobuf": _protobuf,
    "text": lambda stream, _: TextDecoder(stream.told(TextFormat).field),
}
"""What reads the records of a stream, by the kind of its format."""


_PREPARED: Final[Mapping[str, Callable[[Mapping[str, Any]], object]]] = {
    "avro": lambda told: compile_avro(Schema(told["schema"])),
    "protobuf": lambda told: compile_protobuf(Schema(told["schema"]), told.get("message")),
}
"""What looks at the schema in a format, by its kind."""


def decoder_of(stream: Stream, schemas: Schemas | None = None) -> Decoder:
    """Return what reads the records of a stream, with the schemas that they name where they name any.

    Raises SchemaInvalid when the stream's own schema is none.
    """
    return FORMATS[stream.format_kind](stream, schemas)


def problem_of(told: Mapping[str, Any]) -> str:
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


class _Registries(Protocol):
    """What opens schema registries."""

    def open(self, url: str, key: str | None, login: str) -> Schemas:
        """Return the registry at an address. Raises whatever tells that it may not be asked."""


def schemas_of(stream: Stream, registries: _Registries) -> Schemas | None:
    """Return the schemas that a stream's records name; None when they name none. Raises what `registries` do."""
    told = stream.registry
    return None if told is None else registries.open(told.url, told.key, told.login)
