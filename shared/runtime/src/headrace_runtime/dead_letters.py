"""Dead letters: the rejected record, why, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_runtime.messages import Headers, Outgoing
from headrace_runtime.telemetry import inject
from headrace_runtime.topics import dead_topic

MAX_REASON_BYTES = 1024


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

    def outgoing(self, pipeline: str, partition: int | None = None) -> Outgoing:
        """Return the message for the pipeline's dead-letter topic; a trace context of the producer's is kept aside."""
        told = {
            "dead-stage": self.stage,
            "dead-rule": self.rule,
            "dead-field": self.field,
            "dead-reason": self.reason,
            "dead-topic": self.topic,
            "dead-partition": str(self.partition),
            "dead-offset": str(self.offset),
        }
        own = [("dead-traceparent" if name == "traceparent" else name, value) for name, value in self.headers]
        headers = inject([*own, *((name, value.encode()[:MAX_REASON_BYTES]) for name, value in told.items())])
        return Outgoing(dead_topic(pipeline), self.key, self.value, headers, partition)
