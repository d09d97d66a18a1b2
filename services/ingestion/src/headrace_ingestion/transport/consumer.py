"""The producers' topic in, raw batches and dead letters out."""

from __future__ import annotations

from collections.abc import Sequence

from headrace_data.spec import Pipeline
from headrace_runtime.kafka.gaps import Gap
from headrace_runtime.records import Handle, Outgoing, Record
from headrace_runtime.stream.dead_letters import DELETED_UNREAD, DeadLetter
from headrace_runtime.telemetry import names
from opentelemetry import trace
from prometheus_client import Counter, Gauge

from headrace_ingestion.core.intake import Batch, Intake, Taken
from headrace_ingestion.transport.converters import SOURCE, dead_letter, raw_message

RECORDS = Counter("headrace_ingestion_records", "Records checked.", ["pipeline", "outcome"])
UNREAD = Counter(
    "headrace_ingestion_values_unread",
    "Values that are missing because the SELECT tried to read what is there, and could not.",
    ["pipeline", "field"],
)
LATE = Counter(
    "headrace_ingestion_rows_late",
    "Rows over a minute older than the newest before them in their partition.",
    ["pipeline"],
)
WATERMARK = Gauge(
    "headrace_ingestion_watermark_seconds",
    "Newest event time so far, since 1970, by partition; below zero of pushed rows.",
    ["pipeline", "partition"],
)


def handler(intake: Intake) -> Handle:
    """Return what to do with a batch of the producers' records."""

    def handle(records: Sequence[Record]) -> list[Outgoing]:
        return messages_of(intake.take(records), intake)

    return handle


def messages_of(taken: Taken, intake: Intake) -> list[Outgoing]:
    """Return what to write for a producer's records: raw batches, then dead letters."""
    pipeline = intake.pipeline
    count(pipeline, taken, pipeline.stream.topic)
    raw = [_raw(batch, intake) for batch in taken.batches]
    dead = [
        dead_letter(record, rejection, pipeline.stream.topic, intake).outgoing(pipeline.own_name, record.partition)
        for record, rejection in taken.rejected
    ]
    return raw + dead


def gap_messages(gap: Gap, intake: Intake) -> list[Outgoing]:
    """Return what to write for records that were deleted unread: a batch that accounts for them, and a dead letter."""
    pipeline, (topic, partition) = intake.pipeline, gap.place
    batch = intake.pass_over(partition, gap.start, gap.end)
    letter = DeadLetter(
        SOURCE, DELETED_UNREAD, "", gap.reason, topic, partition, gap.start, key=None, value=None, end=gap.end
    )
    return [
        _raw(batch, intake),
        letter.outgoing(pipeline.own_name, partition),
    ]


def _raw(batch: Batch, intake: Intake) -> Outgoing:
    pipeline = intake.pipeline
    count_late(batch, intake)
    return raw_message(batch, pipeline.own_name, pipeline.digest, batch.partition, topic_id=intake.topic_id())


def count_late(batch: Batch, intake: Intake) -> None:
    """Tell metrics how far event time has come where a batch is from, and which of its rows come late."""
    name = intake.pipeline.name
    LATE.labels(name).inc(intake.lateness.add(batch.rows))
    newest_us = intake.lateness.watermarks_us.get(batch.partition)
    if newest_us is not None:
        WATERMARK.labels(name, batch.partition).set(newest_us / 1_000_000)


def count(pipeline: Pipeline, taken: Taken, topic: str) -> None:
    """Tell metrics and the current span what became of some records of a topic."""
    accepted, rejected = sum(batch.rows.num_rows for batch in taken.batches), len(taken.rejected)
    RECORDS.labels(pipeline.name, "accepted").inc(accepted)
    RECORDS.labels(pipeline.name, "rejected").inc(rejected)
    for field, values in taken.unread.items():
        UNREAD.labels(pipeline.name, field).inc(values)
    writers = {schema for batch in taken.batches for schema in batch.writer_schemas}
    trace.get_current_span().set_attributes(
        {
            **({names.WRITER_SCHEMAS: sorted(writers)} if writers else {}),
            names.PIPELINE: pipeline.name,
            names.ROWS: accepted,
            names.REJECTED: rejected,
            names.SOURCES: [f"{topic}:{batch.partition}:{batch.start}-{batch.end - 1}" for batch in taken.batches],
        }
    )
