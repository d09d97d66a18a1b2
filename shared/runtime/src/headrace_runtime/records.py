"""Records as Kafka delivers them and messages to send: plain values. Events and their envelope are `kafka.envelopes`.

A core works with these alone: nothing here imports Kafka, protobuf or OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes]]

Place = tuple[str, int]
"""A topic and a partition of it."""

Offsets = Mapping[Place, int]
"""Next offset to read of each partition."""

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
    number: int = 0
    """Which one it is of a message with many records; 0 where it is the message."""

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


class Polled(list[Record]):
    """The records of one poll, which know in which partition they lie: nobody has to look at each to tell."""

    __slots__ = ("places",)

    def __init__(self, places: dict[Place, list[Record]]) -> None:
        """Take the records of each partition; they come in this order."""
        super().__init__(chain.from_iterable(places.values()))
        self.places = places


def by_place(records: Iterable[Record]) -> Mapping[Place, list[Record]]:
    """Return the records of each partition, in the order in which they came."""
    if isinstance(records, Polled):
        return records.places
    places: dict[Place, list[Record]] = {}
    # Records come in long runs from one partition, and a run costs no more than one of them did.
    for place, run in groupby(records, key=itemgetter(0, 1)):
        places.setdefault(place, []).extend(run)
    return places


_offset = itemgetter(2)


def next_offsets(records: Iterable[Record]) -> dict[Place, int]:
    """Return the offsets to commit once these records are done: the highest of each partition, plus one."""
    return {place: max(map(_offset, found)) + 1 for place, found in by_place(records).items()}


Handle = Callable[[Sequence[Record]], Sequence[Outgoing]]
"""What a service does with a batch of records: records in, messages out."""
