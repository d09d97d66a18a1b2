"""Contracts to the core's types and back."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1 import record_pb2
from headrace.ingestion.v1 import ingestion_service_pb2 as pb
from headrace_data.batches import ipc_parts
from headrace_data.records import Rejection
from headrace_runtime.kafka.envelopes import encode_with, event_headers
from headrace_runtime.poison.bisection import CRASH
from headrace_runtime.record_topics import raw_topic
from headrace_runtime.records import Headers, Outgoing, Record
from headrace_runtime.stream.dead_letters import DeadLetter, StoredLetter

from headrace_ingestion.core.intake import OVERSIZED, Batch, Form, Intake, TimeSource
from headrace_ingestion.core.replay import Outcome, Plan, Selection, selection

SOURCE = "ingestion"
TRACE = "traceparent"
"""The one header of a record with personal fields that a dead letter keeps."""
TIME_SOURCES = {
    TimeSource.CREATE: record_pb2.TIME_SOURCE_CREATE,
    TimeSource.APPEND: record_pb2.TIME_SOURCE_APPEND,
    TimeSource.FIELD: record_pb2.TIME_SOURCE_FIELD,
    TimeSource.ACCEPT: record_pb2.TIME_SOURCE_ACCEPT,
}
OUTCOMES = {
    Outcome.ACCEPTED: pb.REPLAY_OUTCOME_ACCEPTED,
    Outcome.REJECTED: pb.REPLAY_OUTCOME_REJECTED,
    Outcome.REPEATED: pb.REPLAY_OUTCOME_REPEATED,
    Outcome.EXHAUSTED: pb.REPLAY_OUTCOME_EXHAUSTED,
}


def raw_message(
    batch: Batch, pipeline: str, spec_digest: str, partition: int, headers: Headers = (), topic_id: str = ""
) -> Outgoing:
    """Return a batch as a message for one partition of the raw topic, with some headers more.

    `topic_id` is the broker's id of the topic that its records came from; empty for pushed ones.
    """
    message = record_pb2.RecordBatch(
        pipeline=pipeline,
        spec_digest=spec_digest,
        rows=batch.rows.num_rows,
        sources=[record_pb2.SourceRange(partition=batch.partition, start=batch.start, end=batch.end)],
        rejected=batch.rejected,
        topic_id=topic_id,
        time_sources=[TIME_SOURCES[source] for source in batch.time_sources],
        masked=batch.masked,
        unread=batch.unread,
        writer_schemas=sorted(batch.writer_schemas),
    )
    told = [*event_headers(message, SOURCE), *headers]
    value = encode_with(message, "arrow", ipc_parts(batch.rows))
    return Outgoing(raw_topic(pipeline), None, value, told, partition)


def dead_letter(
    record: Record, rejection: Rejection, topic: str, intake: Intake | None = None, form: Form = Form.SENT
) -> DeadLetter:
    """Return a rejected record as a dead letter; topic is where it came from.

    With an intake whose pipeline has personal fields it holds neither the record's bytes nor its key and headers, and
    neither does that of a record with a forgotten key; `form` is what the record was read as.
    """
    letter = DeadLetter(
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
        timestamp_ms=record.timestamp_ms,
        index=record.number,
    )
    if intake is None or not (intake.withholds or rejection.forgotten):
        return letter
    is_unread = rejection.forgotten or rejection.rule in (OVERSIZED, CRASH)
    return replace(
        letter,
        key=None,
        # What is too large, or what a process has died of, is not looked into.
        value=None if is_unread else intake.letter(record, form),
        headers=[(name, value) for name, value in record.headers if name == TRACE],
        withheld=True,
        value_bytes=len(record.value or b""),
    )


def selection_of(wanted: pb.DeadLetterFilter) -> Selection:
    """Return which letters a request means. Raises InvalidInput."""
    return selection(wanted.stage, wanted.rule, wanted.field, wanted.id)


def letter_message(stored: StoredLetter, room: int, original: bytes | None = None) -> pb.DeadLetter:
    """Return a letter for a caller, with at most `room` bytes of the record.

    `original` is what the producer sent, when it was looked up: it stands for a value that was cut, and beside a row.
    """
    letter = stored.letter
    value, beside = letter.value or b"", original or b""
    if original and stored.is_cut:
        value, beside = original, b""
    rejected = Timestamp()
    rejected.FromMilliseconds(stored.time_ms)
    return pb.DeadLetter(
        id=stored.id,
        stage=letter.stage,
        rule=letter.rule,
        field=letter.field,
        reason=letter.reason,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        key=letter.key or b"",
        value=value[:room],
        reject_time=rejected,
        replays=letter.replays,
        trace_id=stored.trace_id,
        original=beside if len(value) + len(beside) <= room else b"",
        withheld=letter.withheld,
        index=letter.index,
    )


def outcome_message(plan: Plan, room: int) -> pb.ReplayDeadLettersResponse:
    """Return what became of a letter, for a caller, with at most `room` bytes of the record."""
    return pb.ReplayDeadLettersResponse(
        letter=letter_message(plan.stored, room), outcome=OUTCOMES[plan.outcome], reason=plan.reason
    )
