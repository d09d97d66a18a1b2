"""Protobuf: messages of a schema of the producer's, as values that JSON has.

Fields have the names of the .proto file. One that was not sent is its default where the language gives it one, and
missing where it can tell: messages, `optional`, members of a oneof. Whole numbers stay whole numbers, of 64 bits too.
Bytes become texts in base64, enums the names of their values, maps objects. Timestamps become texts in ISO 8601,
durations seconds, wrappers their values, Struct and its parts what they hold.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from headrace_data.formats.decoding import Undecodable
from headrace_data.formats.proto_schemas import file_of
from headrace_data.formats.schemas import Read, Schema, SchemaInvalid

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
    from google.protobuf.message import Message

KIND: Final = "protobuf"
_MOST_INDEXES: Final = 32
_MOST_TYPES: Final = 1_000
_WRAPPERS: Final = "DoubleValue FloatValue Int64Value UInt64Value Int32Value UInt32Value BoolValue StringValue"

Plain = Callable[[Any], Any]
"""Makes what JSON has of one value of a field."""


def compile_protobuf(schema: Schema, message: str | None = None) -> Read:
    """Return what reads messages of a type, by its full name; without one, of the first in the schema.

    Raises SchemaInvalid.
    """
    file = file_of(schema)
    if message is None:
        return _reader(_at(file, (0,)))
    try:
        return _reader(file.pool.FindMessageTypeByName(message))
    except KeyError as error:
        known = ", ".join(sorted(each.full_name for each in file.message_types_by_name.values()))
        raise SchemaInvalid(f"expected one of {known[:300]} as message, got {message!r}") from error


def compile_framed(schema: Schema) -> Read:
    """Return what reads values behind the places of their type: a count, and so many numbers, each zigzag.

    Confluent's serialisers write them: [1, 0] is the first type within the second one of the file. A count of zero
    stands for [0]. Raises SchemaInvalid.
    """
    file = file_of(schema)
    readers: dict[tuple[int, ...], Read] = {}

    def read(value: bytes) -> dict[str, Any]:
        places, start = _places(value)
        reader = readers.get(places)
        if reader is None:
            try:
                reader = _reader(_at(file, places))
            except SchemaInvalid as error:
                raise Undecodable(str(error)) from error
            if len(readers) < _MOST_TYPES:
                readers[places] = reader
        return reader(value[start:])

    return read


def _at(file: FileDescriptor, places: tuple[int, ...]) -> Descriptor:
    """Return the type at a place. Raises SchemaInvalid."""
    types: list[Descriptor] = list(file.message_types_by_name.values())
    found: Descriptor | None = None
    for place in places:
        if not 0 <= place < len(types):
            raise SchemaInvalid(f"expected the place of a message in the schema, got {list(places)}")
        found = types[place]
        types = list(found.nested_types)
    assert found is not None, "there is a place at least"  # noqa: S101
    return found


def _places(value: bytes) -> tuple[tuple[int, ...], int]:
    """Return the places that a value begins with, and where it goes on. Raises Undecodable."""
    count, at = _zigzag(value, 0)
    if count == 0:
        return (0,), at
    if not 0 < count <= _MOST_INDEXES:
        raise Undecodable(f"expected at most {_MOST_INDEXES} places of a message's type, got {count}")
    places = []
    for _ in range(count):
        place, at = _zigzag(value, at)
        places.append(place)
    return tuple(places), at


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while at < len(value) and shift <= 63:
        byte = value[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (found >> 1) ^ -(found & 1), at
        shift += 7
    raise Undecodable("expected the places of a message's type, got bytes that are none")


def _reader(descriptor: Descriptor) -> Read:
    from google.protobuf.message_factory import GetMessageClass
    from google.protobuf.unknown_fields import UnknownFieldSet

    made, name = GetMessageClass(descriptor), descriptor.full_name
    row_of = _Rows().of(descriptor)
    defaults = row_of(made())

    def read(value: bytes) -> dict[str, Any]:
        try:
            message = made.FromString(value)
            row = row_of(message)
        except MemoryError:
            raise
        except Exception as error:
            # Whatever stumbles over such bytes, they are none of the schema.
            raise Undecodable(f"expected a {name} in Protobuf, got bytes that are none: {error}") from error
        # Many bytes can be taken for fields that nobody knows.
        if row == defaults and not message.ListFields() and len(UnknownFieldSet(message)):
            raise Undecodable(f"expected a {name} in Protobuf, got bytes with none of its fields")
        return row

    return read


class _Rows:
    """Makes rows of messages, by their types: each type is looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, Callable[[Message], dict[str, Any]]] = {}

    def of(self, descriptor: Descriptor) -> Callable[[Message], dict[str, Any]]:
        """Return what makes a row of a message."""
        if descriptor.full_name in self._known:
            return self._known[descriptor.full_name]
        blank: dict[str, Any] = dict.fromkeys(field.name for field in descriptor.fields)
        plain: list[str] = []
        values: list[tuple[str, Callable[[Message], Any]]] = []

        def row(message: Message) -> dict[str, Any]:
            made = blank.copy()
            # Fields that are values as they are cost half as much when they are taken together.
            made.update(zip(plain, attributes(message), strict=True))
            for name, value_of in values:
                made[name] = value_of(message)
            return made

        # Known before its fields are looked at: a type may hold itself.
        self._known[descriptor.full_name] = row
        for field in descriptor.fields:
            if (made := self._plain(field)) is None and not field.is_repeated and not field.has_presence:
                plain.append(field.name)
            else:
                values.append((field.name, _value_of(field, made)))
        attributes = _attributes(plain)
        return row

    def _plain(self, field: FieldDescriptor) -> Plain | None:
        """Return what makes a value plain; None where it is."""
        kind = field.message_type
        if kind is not None and _is_map(field):
            return self._plain(kind.fields_by_name["value"])
        if kind is not None:
            return _KNOWN.get(kind.full_name) or self.of(kind)
        if field.type == field.TYPE_BYTES:
            return _base64
        if field.enum_type is not None:
            names = {number: each.name for number, each in field.enum_type.values_by_number.items()}
            return lambda number: names.get(number, number)
        return None


def _attributes(names: list[str]) -> Callable[[Message], tuple[Any, ...]]:
    """Return what takes some attributes of a message at once."""
    match names:
        case []:
            return lambda _: ()
        case [name]:
            return lambda message: (getattr(message, name),)
    return attrgetter(*names)


def _value_of(field: FieldDescriptor, plain: Plain | None) -> Callable[[Message], Any]:
    """Return what takes a field's value from a message, made plain where it is not."""
    name, get, made = field.name, attrgetter(field.name), plain or (lambda value: value)
    if _is_map(field):
        return lambda message: {_key(key): made(value) for key, value in get(message).items()}
    if field.is_repeated:
        # A slice is a list, and made faster than a list of what is iterated over.
        return lambda message: get(message)[:] if plain is None else [made(each) for each in get(message)]
    if not field.has_presence:
        return lambda message: made(get(message))
    default = made(field.default_value) if field.has_default_value else None
    return lambda message: made(get(message)) if message.HasField(name) else default


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.GetOptions().map_entry


def _key(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _json(value: Any) -> Any:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(value)


_KNOWN: Final[dict[str, Plain]] = {
    "google.protobuf.Timestamp": lambda value: value.ToJsonString(),
    "google.protobuf.Duration": lambda value: value.seconds + value.nanos / 1e9,
    "google.protobuf.BytesValue": lambda value: _base64(value.value),
    **{f"google.protobuf.{name}": lambda value: value.value for name in _WRAPPERS.split()},
    **{f"google.protobuf.{name}": _json for name in ("Struct", "Value", "ListValue")},
}
"""What becomes of the types that come with Protobuf."""
