"""Formats: how the bytes of a message become a row of JSON-like values. One file a format, by the spec's `kind`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from headrace_data.formats.csv_rows import CsvDecoder
from headrace_data.formats.decoding import Decoded, Decoder, Undecodable
from headrace_data.formats.json_objects import JsonDecoder
from headrace_data.formats.json_schema import JsonSchemaDecoder
from headrace_data.formats.text import TextDecoder
from headrace_data.spec import Stream
from headrace_data.spec.formats import CsvFormat, TextFormat

__all__ = ["FORMATS", "Decoded", "Decoder", "Undecodable", "decoder_of"]


def _names(stream: Stream) -> list[str]:
    """Return what is read of a record, in order: its fields, and what says when."""
    return list(dict.fromkeys([*(field.name for field in stream.fields), *([stream.time] if stream.time else [])]))


def _csv(stream: Stream) -> Decoder:
    told = stream.told(CsvFormat)
    texts = {field.name for field in stream.fields if field.type == "string"}
    return CsvDecoder(told.columns or _names(stream), texts, told.delimiter, told.quote)


FORMATS: Final[Mapping[str, Callable[[Stream], Decoder]]] = {
    "json": lambda stream: JsonDecoder(_names(stream)),
    "json-schema": lambda stream: JsonSchemaDecoder(_names(stream)),
    "csv": _csv,
    "text": lambda stream: TextDecoder(stream.told(TextFormat).field),
}
"""What reads the records of a stream, by the kind of its format."""


def decoder_of(stream: Stream) -> Decoder:
    """Return what reads the records of a stream."""
    return FORMATS[stream.format_kind](stream)
