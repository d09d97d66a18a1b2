"""Kafka records and contracts to the core's types and back."""

from __future__ import annotations

from headrace.events.v1 import record_pb2
from headrace_data.records import Rejection, to_ipc
from headrace_runtime.dead_letters import DeadLetter
from headrace_runtime.messages import Outgoing, Record, event_headers
from headrace_runtime.topics import raw_topic

from headrace_ingestion.core.intake import Batch, Incoming

SOURCE = "ingestion"


def incoming(record: Record) -> Incoming:
    """Return a producer's record as the core takes it."""
    return Incoming(record.partition, record.offset, record.value, record.key, record.headers)


def raw_message(batch: Batch, pipeline: str, spec_digest: str, partition: int) -> Outgoing:
    """Return a batch as a message for one partition of the raw topic."""
    message = record_pb2.RecordBatch(
        pipeline=pipeline,
        spec_digest=spec_digest,
        arrow=to_ipc(batch.rows),
        rows=batch.rows.num_rows,
        sources=[record_pb2.SourceRange(partition=batch.partition, start=batch.start, end=batch.end)],
        rejected=batch.rejected,
    )
    return Outgoing(raw_topic(pipeline), None, message.SerializeToString(), event_headers(message, SOURCE), partition)


def dead_letter(record: Incoming, rejection: Rejection, topic: str) -> DeadLetter:
    """Return a rejected record as a dead letter; topic is where it came from."""
    return DeadLetter(
        stage=SOURCE,
        rule=rejection.rule,
        field=rejection.field,
        reason=rejection.reason,
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
