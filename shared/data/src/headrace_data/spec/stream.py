"""The stream section: the producers' topic and the schema of its records."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Annotated, Any, Final, Literal

import numpy as np
import pydantic

from headrace_data.spec.formats import Envelope, Format, SchemaRegistry, format_section
from headrace_data.spec.labels import Labels
from headrace_data.spec.private_fields import PrivateFields
from headrace_data.spec.scalars import (
    Duration,
    ElementType,
    FieldName,
    FolderName,
    PlaceName,
    PositiveInt,
    Range,
    RecordKey,
    TopicName,
    dtype_of,
)
from headrace_data.spec.section import Section

MAX_AHEAD_S: Final = 3600.0
"""How far a time may be ahead where nothing is said: what brokers take, too (`message.timestamp.after.max.ms`)."""
Role = Literal["feature", "label", "id", "group", "slice"]
"""What a field is for."""


class Field(Section):
    """One named value of a record."""

    name: FieldName = pydantic.Field(description="Key of the value in a record.")
    type: ElementType = pydantic.Field(
        description="Type of each element. bool: true or false in records, 1 or 0 in datasets and calls."
    )
    shape: Annotated[tuple[PositiveInt, ...], pydantic.Field(max_length=4)] = pydantic.Field(
        default=(),
        description="Size of each dimension, row-major; empty for a single value. Features have up to four, a label "
        "may have one: [k] for k places that are answered at once, such as tags or the steps of a forecast.",
    )
    places: Annotated[tuple[PlaceName, ...], pydantic.Field(min_length=1)] | None = pydantic.Field(
        default=None,
        description="Names of the places of a label with a shape, one for each, such as [sport, politics]: clients, "
        "measures and pages show them. Left out: 1, 2 and so on.",
    )
    unit: str | None = pydantic.Field(default=None, description="Unit of the value, for people.")
    role: Role = pydantic.Field(
        description="What the field is for: feature (learned from; a string is a category), label (learned), id "
        "(identifies the record), group (records that must stay on one side of the split, and that a ranking puts in "
        "order) or slice (measured by, with `train.slices`, and not learned from)."
    )
    range: Range | None = pydantic.Field(default=None, description="Lowest and highest allowed value, inclusive.")
    nullable: bool = pydantic.Field(default=False, description="Whether a record may lack the field or hold null.")

    @property
    def place_names(self) -> tuple[str, ...]:
        """What the places of a label with a shape are called; none of a single value."""
        return self.places or tuple(str(place) for place in range(1, self.size + 1)) if self.shape else ()

    @property
    def size(self) -> int:
        """Number of elements: 1 for a single value."""
        return prod(self.shape)

    @property
    def fits_float32(self) -> bool:
        """Whether float32 holds every number of its type exactly. Raises TypeError for strings."""
        return bool(np.can_cast(self.dtype, np.float32))

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Numpy type of one element. Raises TypeError for strings."""
        return dtype_of(self.type)


class Stream(Section):
    """Where records come from and what they look like."""

    topic: TopicName = pydantic.Field(description="The producers' topic.")
    format: Format = pydantic.Field(
        default="json",
        description="How a record is encoded. json: one object. json-schema: the same, behind the five bytes of a "
        "schema registry's serialisers. csv: one row, without a header. text: one text, `value`. image: a PNG or JPEG. "
        "More is told of these as {kind: csv, delimiter: ;} or {kind: json, lines: true}; sound needs a rate, avro and "
        "protobuf a schema or a registry.",
    )
    envelope: Envelope | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that specs keep the digests they had before there were envelopes
        description="What a record comes in. debezium: a change of a row, which `after` is; deletions leave no row and "
        "no dead letter; `__op` and `__ts_ms` stand beside its fields. cloudevents: an event in JSON, whose `data` is "
        "the row, with its attributes as `ce_time` and so on.",
    )
    key: FieldName | None = pydantic.Field(
        default=None,
        description="Field that identifies a record; duplicates are found by it within each partition, or in the "
        "whole stream (prepare.clean.duplicateScope). Default: the field with role id.",
    )
    time: RecordKey | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that specs keep the digests they had before there were times
        description="Key of the value that says when what a record tells of happened, in the schema or not, such as "
        "`measured_at` or `@timestamp`. A text in ISO 8601 with a zone, or a number since 1970: seconds below 1e11, "
        "milliseconds below 1e14, else microseconds. A record without a time there is rejected. Default: the "
        "timestamp of the record in Kafka.",
    )
    max_ahead: Duration = pydantic.Field(
        default=MAX_AHEAD_S,
        exclude_if=lambda value: value == MAX_AHEAD_S,  # as for time
        description="How far a record's time may be ahead of ingestion's clock; one further ahead is rejected.",
    )
    personal: PrivateFields | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for time
        description="What becomes of personal fields before anything of a record is stored. Left out: records are "
        "stored as they come, and dead letters with their bytes. `prepare.clean.personal` masks later, by kind.",
    )
    select: Annotated[str, pydantic.Field(min_length=1, max_length=65_536)] | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for time
        description="How a record becomes the fields of the schema: what stands between SELECT and FROM in SQL (of "
        "DuckDB), such as `payload.after.id AS id, TRY_CAST(replace(amount, ',', '.') AS DOUBLE) AS amount`. A path "
        "by itself keeps its value as it is; in an expression it is a text. $key, $headers['name'] and $timestamp are "
        "of the message. Default: each field is the key of its name.",
    )
    labels: Labels | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for time
        description="Labels that come later, on a topic of their own: rows may lack theirs, and wait for it. Left out: "
        "each row has its label.",
    )
    references: Annotated[tuple[FolderName, ...], pydantic.Field(min_length=1, max_length=16)] | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,  # as for time
        description="Folders below `payloads/` of the object store, such as `scans/2026`, in which the values of "
        "records may lie: a message without a value then says where in the header `headrace-ref`, and in "
        "`headrace-ref-digest` what the SHA-256 of these bytes is, up to 32 MiB. Left out: values come in messages "
        "alone.",
    )
    fields: Annotated[tuple[Field, ...], pydantic.Field(min_length=1, max_length=1024)] = pydantic.Field(
        alias="schema", description="The fields of a record. A record may hold others; they are ignored."
    )

    @property
    def format_kind(self) -> str:
        """The kind of its format."""
        return self.format if isinstance(self.format, str) else self.format.kind

    @property
    def registry(self) -> SchemaRegistry | None:
        """Where the schemas are that its records name; None when they name none."""
        return getattr(self.format, "registry", None)

    @property
    def has_lines(self) -> bool:
        """Whether a message has many records, one on each line."""
        return bool(getattr(self.format, "lines", False))

    @property
    def format_told(self) -> dict[str, Any]:
        """What is told of its format, with defaults, by the keys of a document."""
        return format_section(self.format).plain()

    @property
    def in_json(self) -> Stream:
        """The same stream whose records are in JSON: rows of files come so."""
        return self.model_copy(update={"format": "json", "envelope": None, "references": None})

    @property
    def of_rows(self) -> Stream:
        """A stream whose records are rows by the names of the schema, in JSON: dead letters of rows hold these."""
        return self.in_json.model_copy(update={"select": None})

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of the producers: of the rows, and of the labels where these come later."""
        return (self.topic, self.labels.topic) if self.labels else (self.topic,)

    @property
    def incoming(self) -> Stream:
        """The stream of rows as they come: where labels come later, a row may lack its own."""
        if self.labels is None:
            return self
        fields = [f.model_copy(update={"nullable": True}) if f.role == "label" else f for f in self.fields]
        return self._with(fields=tuple(fields))

    @property
    def asked(self) -> Stream:
        """The stream of records that are to be predicted: these may lack what a model does not read."""
        fields = [f if f.role == "feature" else f.model_copy(update={"nullable": True}) for f in self.fields]
        return self._with(fields=tuple(fields))

    @property
    def of_labels(self) -> Stream:
        """The stream of the labels that come later: their key, of role id, and the label. Raises ValueError without."""
        labels, key = self.labels, self.key_field
        if labels is None or key is None:
            raise ValueError("expected a stream whose labels come later, and a key")
        names = {key.name: labels.key or key.name, self.label.name: labels.label or self.label.name}
        fields = [
            key.model_copy(update={"name": names[key.name], "role": "id"}),
            self.label.model_copy(update={"name": names[self.label.name], "nullable": False}),
        ]
        said = self.personal.fields.items() if self.personal else ()
        treated = {names[name]: treatment for name, treatment in said if name in names}
        told = {"topic": labels.topic, "format": labels.format, "envelope": labels.envelope, "time": labels.time}
        personal = self.personal.model_copy(update={"fields": treated}) if self.personal and treated else None
        return self._with(**told, key=None, personal=personal, select=None, labels=None, fields=tuple(fields))

    def _with(self, **told: Any) -> Stream:
        # A copy would have what this one has worked out of its fields.
        return Stream.model_construct(**{name: getattr(self, name) for name in type(self).model_fields} | told)

    @cached_property
    def features(self) -> tuple[Field, ...]:
        """The fields that a model learns from, in schema order."""
        return tuple(field for field in self.fields if field.role == "feature")

    @cached_property
    def label(self) -> Field:
        """The field that a model learns to predict."""
        return next(field for field in self.fields if field.role == "label")

    @cached_property
    def id(self) -> Field | None:
        """The field with role id, when there is one."""
        return next((field for field in self.fields if field.role == "id"), None)

    @cached_property
    def group(self) -> Field | None:
        """The field with role group, when there is one."""
        return next((field for field in self.fields if field.role == "group"), None)

    @cached_property
    def key_field(self) -> Field | None:
        """The field that identifies a record: `key`, else the id; None when records have no identity."""
        return self.field(self.key) if self.key is not None else self.id

    def field(self, name: str) -> Field:
        """Return the field with this name. Raises KeyError when there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)
