"""Schemas that records name by an id: where they come from, and what is read with each of them.

`Schemas` is what the core needs of a schema registry; the service that reads records gives it. What a registry answers
about an id never changes, so that what is made of it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from headrace_data.canonical import sha256_digest
from headrace_data.errors import DataError
from headrace_data.formats.decoding import Decoded, Undecodable, decode_each
from headrace_data.formats.framing import number_of, prefix_of, unframed
from headrace_data.rejections import Rejection

RULE: Final = "schema"
"""Rule: the id of a record's schema is one that the registry knows, of a schema that can be read."""
MOST_TEXT: Final = 512 * 1024
"""Most characters of a schema, and of all that it refers to."""
MOST_REFERENCES: Final = 100
_MOST_KEPT: Final = 1_000

Read = Callable[[bytes], dict[str, Any]]
"""Makes a row of the bytes of one value. Raises Undecodable."""


class SchemaInvalid(DataError):
    """A schema that nothing can be read with; the message says why."""


class Schemas(Protocol):
    """A schema registry. Raises what tells of a trouble that may pass, when it cannot answer."""

    def by_id(self, number: int) -> Mapping[str, Any] | None:
        """Return the schema with an id, as a registry tells it: `schema`, `schemaType`, `references`; None: unknown."""

    def by_guid(self, guid: str) -> Mapping[str, Any] | None:
        """Return the same of a schema with a GUID."""

    def by_version(self, subject: str, version: int) -> Mapping[str, Any] | None:
        """Return the same of a version of a subject."""


@dataclass(frozen=True)
class Schema:
    """The text of a schema with the texts that it refers to."""

    text: str
    references: Mapping[str, str] = field(default_factory=dict)
    """By the name it refers to them with; what others refer to comes first."""

    @property
    def digest(self) -> str:
        """SHA-256 of the text, and of the texts that it refers to behind it, in their order."""
        return sha256_digest("".join([self.text, *self.references.values()]).encode())


Compile = Callable[[Schema], Read]
"""Returns what reads values of a schema. Raises SchemaInvalid."""


class FramedDecoder:
    """Reads values that name the schema they were written with."""

    def __init__(self, kind: str, schema_type: str, prepare: Compile, schemas: Schemas | None) -> None:
        """`schema_type` is what a registry calls the kind. Without `schemas` nothing can be decoded."""
        self._kind = kind
        self._schema_type = schema_type
        self._prepare = prepare
        self._schemas = schemas
        self._reads: dict[int | str, Read | str] = {}
        """By id what reads, or why nothing can be read with it."""
        self._digests: dict[int | str | None, str] = {}
        """By id the digest of what can be read with."""

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return a row for each value: see `Decoder`. Raises what the registry does."""
        expected = "the id of a schema and a value"
        return decode_each(self._kind, expected, self._one, values, start, rejected)

    def writers(self, values: Sequence[bytes | None]) -> Collection[str]:
        """Return the digests of the schemas that values name: see `KnowsWriters`."""
        numbers = map(number_of, set(map(prefix_of, filter(None, values))))
        return {self._digests[number] for number in numbers if number in self._digests}

    def _one(self, value: bytes) -> dict[str, Any]:
        number, bare = unframed(value)
        read = self._reads.get(number)
        if read is None:
            read = self._look(number)
        if isinstance(read, str):
            raise Undecodable(f"expected a schema of which records can be read, got id {number}: {read}", RULE)
        return read(bare)

    def _look(self, number: int | str) -> Read | str:
        assert self._schemas is not None, "records that name schemas are read where there is a registry"  # noqa: S101
        document = self._schemas.by_guid(number) if isinstance(number, str) else self._schemas.by_id(number)
        if document is None:
            # It may be registered a moment later: the next record asks again.
            return "the registry knows none with this id"
        try:
            schema = _schema(document, self._schema_type, self._schemas)
            read: Read | str = self._prepare(schema)
        except SchemaInvalid as error:
            read = str(error)
        else:
            self._digests[number] = schema.digest
        if len(self._reads) >= _MOST_KEPT:
            self._digests.pop(oldest := next(iter(self._reads)), None)
            self._reads.pop(oldest)
        self._reads[number] = read
        return read


def _schema(document: Mapping[str, Any], schema_type: str, schemas: Schemas) -> Schema:
    """Return the schema that a registry told, with its references. Raises SchemaInvalid."""
    found = document.get("schemaType") or "AVRO"
    if found != schema_type:
        raise SchemaInvalid(f"expected one of type {schema_type}, got {found!r}")
    text, references = document.get("schema"), dict[str, str]()
    if not isinstance(text, str):
        raise SchemaInvalid("the registry told no text of it")
    _collect(document, schemas, references, ())
    if len(text) + sum(map(len, references.values())) > MOST_TEXT:
        raise SchemaInvalid(f"expected at most {MOST_TEXT} characters, got more")
    return Schema(text, references)


def _collect(document: Mapping[str, Any], schemas: Schemas, found: dict[str, str], above: tuple[str, ...]) -> None:
    """Add what a schema refers to, depth first, so that each comes behind what it refers to itself."""
    for name, subject, version in _references(document):
        if name in above or len(above) >= MOST_REFERENCES or len(found) >= MOST_REFERENCES:
            raise SchemaInvalid(f"expected at most {MOST_REFERENCES} references and none in a circle, got {name!r}")
        if name in found:
            continue
        referred = schemas.by_version(subject, version)
        text = None if referred is None else referred.get("schema")
        if referred is None or not isinstance(text, str):
            raise SchemaInvalid(f"it refers to version {version} of {subject!r}, which the registry does not know")
        _collect(referred, schemas, found, (*above, name))
        found[name] = text


def _references(document: Mapping[str, Any]) -> Iterable[tuple[str, str, int]]:
    for each in document.get("references") or ():
        name, subject, version = (each.get(key) for key in ("name", "subject", "version"))
        if not (isinstance(name, str) and isinstance(subject, str) and isinstance(version, int)):
            raise SchemaInvalid("expected references of name, subject and version, got others")
        yield name, subject, version


class BareDecoder:
    """Reads values of one schema that stands in the spec."""

    def __init__(self, kind: str, read: Read, schema: Schema, *, takes_none: bool = False) -> None:
        """`takes_none` tells whether no bytes at all may be a value, which no value is not."""
        self._digest = schema.digest
        self._decode = partial(decode_each, kind, f"a value in {kind}", read, takes_none=takes_none)

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return a row for each value: see `Decoder`."""
        return self._decode(values, start, rejected)

    def writers(self, values: Sequence[bytes | None]) -> Collection[str]:
        """Return the digest of the one schema: see `KnowsWriters`."""
        return (self._digest,) if values else ()
