"""Dead letters: the rejected record, why, and where it came from; written by a stage, read back from the topic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace_runtime.record_topics import dead_topic
from headrace_runtime.records import Headers, Outgoing, Record
from headrace_runtime.telemetry.traces import inject

DELETED_UNREAD = "deletedUnread"
"""Rule: a range of records was deleted from the topic before it was read. There are no bytes to keep."""

MAX_REASON_BYTES = 1024
MAX_KEY_BYTES = 64 * 1024
MAX_OWN_HEADERS_BYTES = 64 * 1024
MAX_VALUE_BYTES = 8 * 1024 * 1024 - 256 * 1024
"""What fits, with key and headers, into a message of the dead-letter topic."""

_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_PREFIX = "dead-"
_OWN_TRACE = "dead-traceparent"
_TRACE = "traceparent"
_STATE = "tracestate"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One rejected record.

    The value is the producer's bytes when `stage` is ingestion. Later stages have the checked row only and send that as
    JSON; the origin names the producer's message in both cases.
    """

    stage: str
    rule: str
    """Machine-readable rule, such as "json", "type", "outOfRange"."""
    field: str
    """The schema field, empty when the whole record is at fault."""
    reason: str
    """What was expected and what came."""
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    """The producer's own headers, which are kept."""
    replays: int = 0
    """How often the record was replayed before it was rejected this time."""
    replay_of: str = ""
    """Id of the letter that was replayed last; empty when none was."""
    end: int = 0
    """The offset behind the last record of a range that the letter stands for; 0 for a single record."""
    timestamp_ms: int = 0
    """Of when the record tells, in milliseconds since 1970; 0 where nobody knows."""
    withheld: bool = False
    """Whether the value is only what may be told of a record with personal fields: neither its bytes nor its row."""
    value_bytes: int = 0
    """Size of the record's value where it is withheld; 0 where nobody knows."""
    index: int = 0
    """Which record of its message it is, from 0."""

    def holds(self, topic: str, partition: int, offset: int) -> bool:
        """Tell whether the letter stands for the record at a place."""
        return (self.topic, self.partition) == (topic, partition) and (
            self.offset <= offset < max(self.end, self.offset + 1)
        )

    def outgoing(self, pipeline: str, partition: int | None = None) -> Outgoing:
        """Return the message for the pipeline's dead-letter topic; a trace context of the producer's is kept aside.

        A value that the topic cannot hold is cut, and own headers or a key that are far too long are left out: a
        record is never too bad to be set aside. A letter after a replay lies in the partition of the one before.
        """
        value = self.value or b""
        told = {
            "dead-stage": self.stage,
            "dead-rule": self.rule,
            "dead-field": self.field,
            "dead-reason": self.reason,
            **self.origin_headers(),
        }
        if self.withheld:
            told["dead-withheld"] = "1"
        if len(value) > MAX_VALUE_BYTES or self.value_bytes:
            told["dead-value-bytes"] = str(self.value_bytes or len(value))
        headers = inject([*self._own(), *((name, _bytes(text)[:MAX_REASON_BYTES]) for name, text in told.items())])
        key = self.key if len(self.key or b"") <= MAX_KEY_BYTES else None
        # A message without key and value cannot be written; such a record, and a range that is gone, has neither.
        kept = value[:MAX_VALUE_BYTES] if self.value is not None or key is None else None
        if self.replay_of:
            partition = _number(self.replay_of.partition(":")[0], partition or 0, _INT32)
        return Outgoing(dead_topic(pipeline), key, kept, headers, partition)

    def after_replay(self, headers: Headers) -> DeadLetter:
        """Return this letter with the origin of a replayed record, when `headers` are those of a replay."""
        told = _told(headers)
        if "dead-replay-of" not in told:
            return self
        own = [(_TRACE, told[_OWN_TRACE].encode())] if _OWN_TRACE in told else []
        origin = _origin_of(told)
        # A letter of before times were kept tells none.
        origin["timestamp_ms"] = origin["timestamp_ms"] or self.timestamp_ms
        return replace(self, headers=self.headers or own, **origin)

    def origin_headers(self) -> dict[str, str]:
        """Return the headers that tell where the record came from, and which letter was replayed last."""
        origin = {
            "dead-topic": self.topic,
            "dead-partition": str(self.partition),
            "dead-offset": str(self.offset),
        }
        if self.index:
            origin["dead-index"] = str(self.index)
        if self.end:
            origin["dead-end"] = str(self.end)
        if self.timestamp_ms > 0:
            origin["dead-time"] = str(self.timestamp_ms)
        replay = {"dead-replays": str(self.replays), "dead-replay-of": self.replay_of} if self.replay_of else {}
        return origin | replay

    def _own(self) -> Headers:
        # What looks like a letter's headers would be taken for them.
        kept = [(name, value) for name, value in self.headers if not name.startswith(_PREFIX)]
        kept = [(_OWN_TRACE if name == _TRACE else name, value) for name, value in kept]
        small = sum(len(name) + len(value) for name, value in kept) <= MAX_OWN_HEADERS_BYTES
        return kept if small else [item for item in kept if item[0] == _OWN_TRACE]


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter as it lies in the topic."""

    letter: DeadLetter
    partition: int
    """Its own place in the dead-letter topic, as `offset`."""
    offset: int
    time_ms: int
    """When the record was rejected, in milliseconds since the epoch."""
    traceparent: str
    """Trace context of the rejection, empty when there was none."""
    value_bytes: int
    """Size of the record's value, of which the letter holds less when it was cut or withheld; as far as it is told."""

    @property
    def id(self) -> str:
        """Its place as partition:offset."""
        return f"{self.partition}:{self.offset}"

    @property
    def is_cut(self) -> bool:
        """Whether the value was too large for the topic."""
        return not self.letter.withheld and self.value_bytes > len(self.letter.value or b"")

    @property
    def trace_id(self) -> str:
        """Trace of the rejection, 32 hexadecimal digits; empty when it was not recorded."""
        parts = self.traceparent.split("-")
        recorded = len(parts) == 4 and parts[3][-1:] in set("13579bdf")
        return parts[1] if recorded else ""

    @property
    def contexts(self) -> Iterator[Headers]:
        """The trace contexts that a replay links to: that of the rejection, then the producer's."""
        if self.traceparent:
            yield [(_TRACE, self.traceparent.encode())]
        yield self.letter.headers

    def replay_headers(self) -> Headers:
        """Return the headers by which later stages know that they see this letter's record again."""
        told = replace(self.letter, replays=self.letter.replays + 1, replay_of=self.id).origin_headers()
        own = [(_OWN_TRACE, value) for name, value in self.letter.headers if name == _TRACE]
        return [*own, *((name, text.encode()) for name, text in told.items())]


def read_letter(record: Record) -> StoredLetter:
    """Return a message of a dead-letter topic as a letter; what its headers do not tell is empty or -1.

    Anybody may have written it: numbers are none where no partition, offset or count can be that large.
    """
    told = _told(record.headers)
    own = [
        (_TRACE if name == _OWN_TRACE else name, value)
        for name, value in record.headers
        if name == _OWN_TRACE or not name.startswith((_PREFIX, _TRACE, _STATE))
    ]
    letter = DeadLetter(
        stage=told.get("dead-stage", ""),
        rule=told.get("dead-rule", ""),
        field=told.get("dead-field", ""),
        reason=told.get("dead-reason", ""),
        key=record.key,
        value=record.value,
        headers=own,
        withheld=told.get("dead-withheld") == "1",
        **_origin_of(told),
    )
    return StoredLetter(
        letter,
        record.partition,
        record.offset,
        record.time_ms,
        record.header(_TRACE) or "",
        _number(told.get("dead-value-bytes"), len(record.value or b""), _INT64),
    )


def _bytes(text: str) -> bytes:
    # An error may quote half of a surrogate pair, which is no text in UTF-8.
    return text.encode(errors="backslashreplace")


def _told(headers: Headers) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in headers if name.startswith(_PREFIX)}


def _origin_of(told: Mapping[str, str]) -> dict[str, Any]:
    return {
        "topic": told.get("dead-topic", ""),
        "partition": _number(told.get("dead-partition"), -1, _INT32),
        "offset": _number(told.get("dead-offset"), -1, _INT64),
        "index": _number(told.get("dead-index"), 0, _INT32),
        "end": _number(told.get("dead-end"), 0, _INT64),
        "timestamp_ms": _number(told.get("dead-time"), 0, _INT64),
        "replays": _number(told.get("dead-replays"), 0, _INT32),
        "replay_of": told.get("dead-replay-of", ""),
    }


def _number(text: str | None, otherwise: int, most: int) -> int:
    if text is None or not text.isdecimal() or len(text) > len(str(most)):
        return otherwise
    number = int(text)
    return number if number <= most else otherwise
