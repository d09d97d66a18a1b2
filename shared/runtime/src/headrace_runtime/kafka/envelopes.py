"""The one envelope of events: protobuf messages in Kafka messages, out and in.

Headers are CloudEvents in binary mode (https://github.com/cloudevents/spec, Kafka protocol binding) and the W3C trace
context; the value is the bare protobuf message.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeVar

import uuid_utils
import zstandard
from google.protobuf.message import DecodeError, Message

from headrace_runtime.errors import Unprocessable
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.telemetry.traces import inject
from headrace_runtime.topics import topic_of

LARGEST_BYTES = 1_000_000
"""Largest value of an event (bytes, compressed): brokers take messages of 1 MiB by default."""
_LENGTH_DELIMITED = 2
"""Protobuf's wire type of bytes."""
LARGEST_PLAIN_BYTES = 8 * 1024 * 1024 - 65_536
"""Largest value of an event (bytes, before compression): what the producers send at most, less the headers."""


def fits(value: bytes) -> bool:
    """Return whether Kafka takes an event with this value."""
    if len(value) <= LARGEST_BYTES:
        return True
    return len(value) <= LARGEST_PLAIN_BYTES and len(zstandard.compress(value)) <= LARGEST_BYTES


def encode(message: Message, *, source: str) -> Outgoing:
    """Return an event ready to send to the topic of its class, with the current trace context."""
    topic = topic_of(type(message))
    return Outgoing(
        topic.name, topic.key_of(message).encode() or None, message.SerializeToString(), event_headers(message, source)
    )


def encode_with(message: Message, name: str, parts: Sequence[bytes | memoryview]) -> bytes:
    """Return a message's bytes with those of one more field, which are put together of parts.

    Protobuf takes the fields of a message in any order. Its own encoder copies such bytes four times.
    """
    number = message.DESCRIPTOR.fields_by_name[name].number
    head = _varint(number << 3 | _LENGTH_DELIMITED) + _varint(sum(map(len, parts)))
    return b"".join([message.SerializeToString(), head, *parts])


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def event_headers(message: Message, source: str) -> list[tuple[str, bytes]]:
    """Return CloudEvents headers for a message made now, with the current trace context."""
    return inject(plain_headers(message.DESCRIPTOR.full_name, source))


def plain_headers(kind: str, source: str, content: str = "application/protobuf") -> list[tuple[str, bytes]]:
    """Return CloudEvents headers for a message made now, of a kind and with a type of content, in no trace."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return [
        ("ce_id", new_id().encode()),
        ("ce_time", f"{now[:-6]}Z".encode()),
        *_headers_of_all(kind, source, content),
    ]


@lru_cache(maxsize=256)
def _headers_of_all(kind: str, source: str, content: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that are the same in all messages of a kind from a source."""
    return (
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/{source}".encode()),
        ("ce_type", kind.encode()),
        ("content-type", content.encode()),
    )


def new_id() -> str:
    """Return a new UUIDv7: unique, and in the order of time."""
    return str(uuid_utils.uuid7())


M = TypeVar("M", bound=Message)


def decode(record: Record, message_class: type[M]) -> M:
    """Return the message in a record. Raises Unprocessable when the bytes are none of that class."""
    if record.value is None:
        raise Unprocessable(_none_of(message_class, record, "no value"))
    try:
        return message_class.FromString(record.value)
    except DecodeError as error:
        raise Unprocessable(_none_of(message_class, record, f"{len(record.value)} bytes ({error})")) from error


def _none_of(message_class: type[Message], record: Record, got: str) -> str:
    return f"{record.coordinates}: expected a {message_class.DESCRIPTOR.full_name}, got {got}"
