"""How a producer's records are encoded: `stream.format`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

import pydantic

from headrace_data.spec.scalars import DnsLabel, RecordKey
from headrace_data.spec.section import Section
from headrace_data.spec.urls import Url

FormatWord = Literal["json", "json-schema", "csv", "text", "image"]
"""Formats of which nothing need be told."""


def _columns(value: tuple[str, ...]) -> tuple[str, ...]:
    if twice := sorted({name for name in value if value.count(name) > 1}):
        raise ValueError(f"expected each column once, got {', '.join(twice)} again")
    return value


def _mark(value: str) -> str:
    if not value.isprintable() and value != "\t":
        raise ValueError("expected one printable character, or a tab")
    return value


Mark = Annotated[str, pydantic.Field(min_length=1, max_length=1), pydantic.AfterValidator(_mark)]


Envelope = Literal["debezium", "cloudevents"]
"""What records tell of their rows in."""
SchemaText = Annotated[str, pydantic.Field(min_length=1, max_length=512 * 1024)]


class JsonFormat(Section):
    """JSON objects."""

    kind: Literal["json"] = pydantic.Field(description="JSON.")
    lines: bool = pydantic.Field(
        default=False,
        description="Whether a message has many records, an object on each line. Each is checked, rejected and "
        "replayed by itself; a message has at most 10,000.",
    )


class SchemaRegistry(Section):
    """Where the schemas are that records name: a registry with the API of Confluent's."""

    url: Url = pydantic.Field(
        description="Base address, such as https://schemas.acme.example or http://apicurio:8080/apis/ccompat/v7. "
        "Services ask those alone that their operator allows (HEADRACE_SCHEMA_REGISTRY_HOSTS)."
    )
    key: DnsLabel | None = pydantic.Field(
        default=None,
        description="Name of the key that it is asked with, which the services have "
        "(HEADRACE_SCHEMA_REGISTRY_KEYS_DIR); left out for none.",
    )
    login: Literal["basic", "bearer"] = pydantic.Field(
        default="basic", description="What the key is: basic, `user:password`; bearer, a token."
    )


class JsonSchemaFormat(Section):
    """JSON objects that a schema registry's serialiser wrote."""

    kind: Literal["json-schema"] = pydantic.Field(description="JSON behind five bytes with the id of its schema.")
    registry: SchemaRegistry | None = pydantic.Field(
        default=None,
        description="Where the schemas are. Each record's is then asked for, and datasets name it; without, its id is "
        "passed over.",
    )


class CsvFormat(Section):
    """One row of CSV for each message, without a header."""

    kind: Literal["csv"] = pydantic.Field(description="CSV: one row for each message.")
    columns: (
        Annotated[
            tuple[RecordKey, ...],
            pydantic.Field(min_length=1, max_length=4096),
            pydantic.AfterValidator(_columns),
        ]
        | None
    ) = pydantic.Field(
        default=None,
        description="Names of the cells, in order. Left out: the fields in the order of the schema, and `time` behind "
        "them where it is none of these.",
    )
    delimiter: Mark = pydantic.Field(default=",", description="What divides cells.")
    quote: Mark = pydantic.Field(default='"', description="What stands around a cell with a delimiter in it.")

    @pydantic.model_validator(mode="after")
    def _marks_differ(self) -> CsvFormat:
        if self.delimiter == self.quote:
            raise ValueError(f"expected another quote than the delimiter, got {self.quote!r} for both")
        return self


class TextFormat(Section):
    """One text for each message."""

    kind: Literal["text"] = pydantic.Field(description="Text in UTF-8.")
    field: RecordKey = pydantic.Field(default="value", description="What the text is called in a row.")


class AvroFormat(Section):
    """One record of Avro for each message."""

    kind: Literal["avro"] = pydantic.Field(description="Avro.")
    schema_text: SchemaText | None = pydantic.Field(
        default=None,
        alias="schema",
        description="The schema that all records are written with, in JSON. Either this or a registry.",
    )
    registry: SchemaRegistry | None = pydantic.Field(
        default=None,
        description="Where the schemas are. A message is then a byte 0, the four bytes of its schema's id, and the "
        "record.",
    )

    @pydantic.model_validator(mode="after")
    def _has_a_schema(self) -> AvroFormat:
        if (self.schema_text is None) == (self.registry is None):
            raise ValueError("expected either schema or registry")
        return self


class ProtobufFormat(Section):
    """One message of Protobuf for each message of Kafka."""

    kind: Literal["protobuf"] = pydantic.Field(description="Protobuf.")
    schema_text: SchemaText | None = pydantic.Field(
        default=None,
        alias="schema",
        description="The text of a .proto file, which imports none but those of google/protobuf. Either this or a "
        "registry.",
    )
    message: RecordKey | None = pydantic.Field(
        default=None,
        description="Full name of the type of records in this schema, such as acme.Sale. Left out: its first message.",
    )
    registry: SchemaRegistry | None = pydantic.Field(
        default=None,
        description="Where the schemas are. A message is then a byte 0, the four bytes of its schema's id, the place "
        "of its type in that, and the value.",
    )

    @pydantic.model_validator(mode="after")
    def _has_a_schema(self) -> ProtobufFormat:
        if (self.schema_text is None) == (self.registry is None):
            raise ValueError("expected either schema or registry")
        if self.message is not None and self.registry is not None:
            raise ValueError("expected no message beside a registry: records say of which type they are")
        return self


class ImageFormat(Section):
    """One picture for each message."""

    kind: Literal["image"] = pydantic.Field(
        description="A picture in PNG or JPEG. A row has `pixels`, from 0 to 255, and the picture's `width` and "
        "`height`. The shape of the field that is `pixels` says what they are: [height, width] or [1, height, width] "
        "of gray, [3, height, width] or [height, width, 3] of red, green and blue."
    )
    size: Literal["exact", "resize"] = pydantic.Field(
        default="exact",
        description="What becomes of a picture of another size. exact: it is rejected. resize: it is stretched to "
        "the field's, whatever its sides.",
    )


class SoundFormat(Section):
    """One sound for each message."""

    kind: Literal["sound"] = pydantic.Field(
        description="A sound in WAV or FLAC. A row has `samples` from -1 to 1, the mean of its channels, its `rate` "
        "and the `seconds` that it lasts. The shape of the field that is `samples` says how many they are: [samples], "
        "[1, samples] or [samples, 1]."
    )
    rate: Annotated[int, pydantic.Field(ge=1, le=768_000)] = pydantic.Field(
        description="Samples a second. A sound of another rate is rejected."
    )
    length: Literal["exact", "fit"] = pydantic.Field(
        default="exact",
        description="What becomes of a sound of another length. exact: it is rejected. fit: its end is cut off, or "
        "silence put behind it.",
    )


_SECTIONS: Final[Mapping[str, type[Section]]] = {
    "json": JsonFormat,
    "json-schema": JsonSchemaFormat,
    "csv": CsvFormat,
    "text": TextFormat,
    "avro": AvroFormat,
    "protobuf": ProtobufFormat,
    "image": ImageFormat,
    "sound": SoundFormat,
}
"""Formats that can be told something."""


def _form(value: object) -> str | None:
    if isinstance(value, str):
        return "a word" if value in get_args(FormatWord) else None
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) and kind in _SECTIONS else None


Format = Annotated[
    Annotated[FormatWord, pydantic.Tag("a word")]
    | Annotated[JsonFormat, pydantic.Tag("json")]
    | Annotated[JsonSchemaFormat, pydantic.Tag("json-schema")]
    | Annotated[CsvFormat, pydantic.Tag("csv")]
    | Annotated[TextFormat, pydantic.Tag("text")]
    | Annotated[AvroFormat, pydantic.Tag("avro")]
    | Annotated[ProtobufFormat, pydantic.Tag("protobuf")]
    | Annotated[ImageFormat, pydantic.Tag("image")]
    | Annotated[SoundFormat, pydantic.Tag("sound")],
    pydantic.Discriminator(
        _form,
        custom_error_type="format",
        custom_error_message=f"expected {', '.join(get_args(FormatWord))}, or a mapping with "
        f"{', '.join(_SECTIONS)} as kind",
    ),
]
"""How a record is encoded: a kind by its name, or with what it can be told."""
FORMAT_KINDS: Final = tuple(dict.fromkeys([*get_args(FormatWord), *_SECTIONS]))


def format_section(told: object) -> Section:
    """Return what a format is told, its defaults where it was named by its word alone."""
    if isinstance(told, Section):
        return told
    section = _SECTIONS.get(str(told))
    return Section() if section is None else section.model_validate({"kind": told})
