"""What reads the records of a stream, and the schemas that they name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from headrace_data.formats import FILES, FORMATS, Decoder, Names, Schemas
from headrace_data.formats.envelopes import Unwrapped
from headrace_data.select.needs import needs_of, whole_fields
from headrace_data.spec import Stream


class Registries(Protocol):
    """What opens schema registries."""

    def open(self, url: str, key: str | None, login: str) -> Schemas:
        """Return the registry at an address. Raises whatever tells that it may not be asked."""


def decoder_of(stream: Stream, schemas: Schemas | None = None, floats: Collection[str] = ()) -> Decoder:
    """Return what reads the records of a stream, with the schemas that they name where they name any.

    Values of `floats` may come as arrays, where a format has them in one piece.

    Raises SchemaInvalid when the stream's own schema is none, SelectInvalid, and ImportError where a library is not
    there that reads its files.
    """
    names = [field.name for field in stream.fields]
    if stream.time is not None and stream.time not in names:
        names.append(stream.time)
    texts = {field.name for field in stream.fields if field.type == "string"}
    if stream.select is not None and stream.format_kind == "csv":
        # Its cells have names of their own, and an expression reads each as the text that it is.
        texts = {name for name, is_text in needs_of(stream).texts.items() if is_text}
    shapes = {key: field.shape for key, field in whole_fields(stream).items()} if stream.format_kind in FILES else {}
    decoder = FORMATS[stream.format_kind](stream.format_told, Names(names, texts, shapes, floats), schemas)
    return decoder if stream.envelope is None else Unwrapped(decoder, stream.envelope)


def schemas_of(stream: Stream, registries: Registries) -> Schemas | None:
    """Return the schemas that a stream's records name; None when they name none. Raises what `registries` do."""
    told = stream.registry
    return None if told is None else registries.open(told.url, told.key, told.login)
