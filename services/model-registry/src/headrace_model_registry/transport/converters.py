"""Protobuf messages to the core's dataclasses and back, field by field, by name.

A dataclass has the fields of its message, so one function each way serves all of them: scalars and enums as they are,
repeated fields as tuples, maps as dicts, timestamps as aware datetimes, other messages as their dataclasses. A field
typed `X | None` is None when the message does not have it; any other message field must be there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from google.protobuf.message import Message
from headrace.events.v1 import (
    artifact_pb2,
    backfill_pb2,
    canary_pb2,
    dataset_pb2,
    evaluation_pb2,
    forget_pb2,
    hold_pb2,
    model_pb2,
    pipeline_pb2,
    prediction_pb2,
    quality_pb2,
    record_pb2,
    rollout_pb2,
    run_pb2,
    segment_pb2,
)
from headrace.registry.v1 import registry_log_pb2, registry_service_pb2
from headrace_runtime.errors import InvalidInput, Unprocessable

from headrace_model_registry.core.facts import Event, LogEntry

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_MODULES = (
    artifact_pb2,
    backfill_pb2,
    canary_pb2,
    dataset_pb2,
    evaluation_pb2,
    forget_pb2,
    hold_pb2,
    model_pb2,
    pipeline_pb2,
    prediction_pb2,
    quality_pb2,
    record_pb2,
    rollout_pb2,
    run_pb2,
    segment_pb2,
    registry_log_pb2,
    registry_service_pb2,
)
_MESSAGES: dict[str, type[Message]] = {
    name: getattr(module, name) for module in _MODULES for name in module.DESCRIPTOR.message_types_by_name
}
_EVENT_FIELDS = {
    field.message_type.name: field.name
    for field in registry_log_pb2.LogEntry.DESCRIPTOR.oneofs_by_name["event"].fields
    if field.message_type is not None
}


def to_message(value: Any) -> Message:
    """Return the message of the same name as the dataclass, with its values."""
    return fill(_MESSAGES[type(value).__name__](), value)


def fill(message: M, value: Any) -> M:
    """Give a message the values of a dataclass with the same fields, and return it."""
    for field in fields(value):
        _set(message, field.name, getattr(value, field.name))
    return message


def listing(response: M, values: Iterable[Any]) -> M:
    """Give a response, whose one field is a list, these values, and return it."""
    (field,) = response.DESCRIPTOR.fields
    _set(response, field.name, tuple(values))
    return response


def from_message(kind: type[T], message: Message) -> T:
    """Return a dataclass with the values of a message of the same fields.

    Raises Unprocessable when a message that the dataclass needs is not set, a number is none of an enum's, or a time is
    none that a calendar has.
    """
    return kind(**{name: read(message, name) for name, read in _readers(kind).items()})


def to_log_entry(entry: LogEntry) -> registry_log_pb2.LogEntry:
    """Return a line of the log as a message."""
    message = registry_log_pb2.LogEntry()
    message.occur_time.FromDatetime(entry.occur_time)
    event = getattr(message, _EVENT_FIELDS[type(entry.event).__name__])
    event.SetInParent()
    fill(event, entry.event)
    return message


def from_log_entry(message: registry_log_pb2.LogEntry) -> LogEntry:
    """Return a line of the log. Raises Unprocessable when it holds no event that this registry knows, or no time."""
    name = message.WhichOneof("event")
    if name is None:
        raise Unprocessable("the entry holds no event, or one of a newer registry")
    event = getattr(message, name)
    kinds = {kind.__name__: kind for kind in get_args(Event)}
    return LogEntry(_moment(message, "occur_time"), from_message(kinds[event.DESCRIPTOR.name], event))


def _set(message: Message, name: str, value: Any) -> None:
    target = getattr(message, name)
    if value is None:
        return
    if isinstance(value, datetime):
        target.FromDatetime(value)
    elif is_dataclass(value):
        target.SetInParent()  # also when nothing in it is set
        fill(target, value)
    elif isinstance(value, Mapping):
        target.update(value)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            if is_dataclass(item):
                fill(target.add(), item)
            else:
                target.append(item)
    else:
        setattr(message, name, value)


_Reader = Callable[[Message, str], Any]


_READERS: dict[type, dict[str, _Reader]] = {}


def _readers(kind: type) -> dict[str, _Reader]:
    """Return how to read each field of a dataclass from its message."""
    if kind not in _READERS:
        _READERS[kind] = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
    return _READERS[kind]


def _reader(hint: Any) -> _Reader:
    origin = get_origin(hint)
    if origin is UnionType:
        (needed,) = (part for part in get_args(hint) if part is not NoneType)
        return _optional(_reader(needed))
    if origin is tuple:
        item: Any = get_args(hint)[0]
        if issubclass(item, str | int):
            return lambda message, name: tuple(getattr(message, name))
        return lambda message, name: tuple(from_message(item, each) for each in getattr(message, name))
    if origin is Mapping:
        return lambda message, name: dict(getattr(message, name))
    if hint is datetime:
        return _needed(_moment)
    if is_dataclass(hint):
        kind: type[Any] = hint if isinstance(hint, type) else type(hint)
        return _needed(lambda message, name: from_message(kind, getattr(message, name)))
    if issubclass(hint, IntEnum):
        return lambda message, name: _member(hint, message, name)
    return getattr


def _optional(read: _Reader) -> _Reader:
    return lambda message, name: read(message, name) if message.HasField(name) else None


def _needed(convert: _Reader) -> _Reader:
    def read(message: Message, name: str) -> Any:
        if not message.HasField(name):
            raise Unprocessable(f"{message.DESCRIPTOR.full_name}.{name} is not set")
        return convert(message, name)

    return read


def _moment(message: Message, name: str) -> datetime:
    try:
        return cast("datetime", getattr(message, name).ToDatetime(UTC))
    except (ValueError, OverflowError) as error:
        raise Unprocessable(
            f"{message.DESCRIPTOR.full_name}.{name}: expected a time between the years 1 and 9999: {error}"
        ) from error


def _member(kind: type[IntEnum], message: Message, name: str) -> IntEnum:
    number = getattr(message, name)
    try:
        return kind(number)
    except ValueError:
        known = ", ".join(f"{member.value} ({member.name})" for member in kind)
        raise Unprocessable(f"{message.DESCRIPTOR.full_name}.{name} is {number}, expected one of {known}") from None


def moment_of(request: Message) -> datetime | None:
    """Return the moment that a request looks at, None for now. Raises InvalidInput for a time that no calendar has."""
    if not request.HasField("as_of"):
        return None
    try:
        return _moment(request, "as_of")
    except Unprocessable as error:
        raise InvalidInput(str(error)) from error


def from_request(kind: type[T], request: Message, name: str) -> T | None:
    """Return a message field of a request, None when it is not set. Raises InvalidInput as `from_message` does."""
    if not request.HasField(name):
        return None
    try:
        return from_message(kind, getattr(request, name))
    except Unprocessable as error:
        raise InvalidInput(str(error)) from error
