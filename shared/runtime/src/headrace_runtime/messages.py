"""Kafka messages in and out, and the one envelope of events.

Headers are CloudEvents in binary mode (https://github.com/cloudevents/spec, Kafka protocol binding) and the W3C trace
context; the value is the bare protobuf message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVar

import uuid_utils
import zstandard
from google.protobuf.message import DecodeError, Message

from headrace_runtime.errors import Unprocessable
from headrace_runtime.telemetry import inject
from headrace_runtime.topics import topic_of

LARGEST_BYTES = 1_000_000
"""Largest value of an event (bytes, compressed): brokers take messages of 1 MiB by default."""
LARGEST_PLAIN_BYTES = 8 * 1024 * 1024 - 65_536
"""Largest value of an event (bytes, before compression): what the producers send at most, less the headers."""

Headers = Sequence[tuple[str, bytes]]

Place = tuple[str, int]
"""A topic and a partition of it."""

LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


class Record(NamedTuple):
    """A message as Kafka delivered it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0
    is_append_time: bool = False
    """Whether the timestamp is when the broker took the message; else its producer set it."""

    @property
    def place(self) -> Place:
        """The partition that it lies in."""
        return self.topic, self.partition

    @property
    def coordinates(self) -> str:
        """Its place and offset in the words of messages and commands: topic:partition:offset."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def time_ms(self) -> int:
        """Its timestamp, or the nearest of the years 1970 to 9999: a producer may have sent any number."""
        return min(max(self.timestamp_ms, 0), LAST_MS)

    def header(self, name: str) -> str | None:
        """Return the last header of that name as text, None when there is none."""
        values = [value for key, value in self.headers if key == name]
        return values[-1].decode(errors="replace") if values else None


def fits(value: bytes) -> bool:
    """Return whether Kafka takes an event with this value."""
    if len(value) <= LARGEST_BYTES:
        return True
    return len(value) <= LARGEST_PLAIN_BYTES and len(zstandard.compress(value)) <= LARGEST_BYTES


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. Kafka picks the partition by the key when partition is None."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


def encode(message: Message, *, source: str) -> Outgoing:
    """Return an event ready to send to the topic of its class, with the current trace context."""
    topic = topic_of(type(message))
    return Outgoing(
        topic.name, topic.key_of(message).encode() or None, message.SerializeToString(), event_headers(message, source)
    )


def event_headers(message: Message, source: str) -> list[tuple[str, bytes]]:
    """Return CloudEvents headers for a message made now, with the current trace context."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return inject(
        [
            ("ce_id", new_id().encode()),
            ("ce_time", f"{now[:-6]}Z".encode()),
            *_headers_of_all(message.DESCRIPTOR.full_name, source),
        ]
    )


@lru_cache(maxsize=256)
def _headers_of_all(message_type: str, source: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that are the same in all messages of a type from a source."""
    return (
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/{source}".encode()),
        ("ce_type", message_type.encode()),
        ("content-type", b"application/protobuf"),
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


Offsets = Mapping[Place, int]
"""Next offset to read of each partition."""


def by_place(records: Iterable[Record]) -> dict[Place, list[Record]]:
    """Return the records of each partition, in the order in which they came."""
    places: dict[Place, list[Record]] = {}
    # Records come in long runs from one partition, and a run costs no more than one of them did.
    for place, run in groupby(records, key=itemgetter(0, 1)):
        places.setdefault(place, []).extend(run)
    return places


def next_offsets(records: Iterable[Record]) -> dict[Place, int]:
    """Return the offsets to commit once these records are done: the highest of each partition, plus one."""
    return {place: max(record.offset for record in found) + 1 for place, found in by_place(records).items()}


Handle = Callable[[Sequence[Record]], Sequence[Outgoing]]
"""What a service does with a batch of records: records in, messages out."""
