"""Raw batches in, clean batches and dead letters out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
from headrace.events.v1 import record_pb2
from headrace_data.cleaning import Cleaned
from headrace_data.forgotten import hushed
from headrace_data.records import Rejection
from headrace_data.spec import Pipeline
from headrace_runtime.kafka.gaps import Gap
from headrace_runtime.poison.bisection import CRASH
from headrace_runtime.records import Handle, Outgoing, Record
from headrace_runtime.stream.dead_letters import DELETED_UNREAD, DeadLetter
from headrace_runtime.telemetry import names
from opentelemetry import trace
from prometheus_client import Counter

from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.transport.converters import SOURCE, clean_message, dead_letter, record_batch

TOGETHER_BYTES: Final = 1024 * 1024
"""Most bytes of messages that are cleaned together: what is beyond gains nothing, and takes memory."""

ROWS = Counter("headrace_preprocessing_rows", "Rows cleaned.", ["pipeline", "outcome"])


def handler(cleaner: Cleaner) -> Handle:
    """Return what to do with messages of a raw topic."""

    def handle(records: Sequence[Record]) -> list[Outgoing]:
        done = [each for some in _pieces(records) for each in _clean_some(cleaner, some)]
        _count(cleaner, done)
        return [message for each in done for message in each.messages]

    return handle


def gap_messages(gap: Gap, pipeline: Pipeline) -> list[Outgoing]:
    """Return what to write for messages of a raw topic that were deleted unread: a dead letter of their range.

    Which of the producers' records they held nobody knows any more.
    """
    topic, partition = gap.place
    letter = DeadLetter(
        SOURCE, DELETED_UNREAD, "", gap.reason, topic, partition, gap.start, key=None, value=None, end=gap.end
    )
    return [letter.outgoing(pipeline.own_name, partition)]


def handle_rows(cleaner: Cleaner, record: Record, rows: Sequence[int], faults: Mapping[int, str]) -> list[Outgoing]:
    """Clean some rows of a message; others are parked, each with the reason."""
    raw, batch = record_batch(record, cleaner.pipeline)
    some = batch.take(pa.array(rows, pa.int64()))
    (cleaned,) = cleaner.clean(record.partition, [some])
    if faults:
        cleaned = replace(cleaned, counts={**cleaned.counts, CRASH: len(faults)})
    done = _written(cleaner, record, raw, some, cleaned)
    _count(cleaner, [done])
    rejections = [Rejection(row, CRASH, "", reason) for row, reason in sorted(faults.items())]
    return [*done.messages, *_letters(cleaner, record, batch, rejections)]


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of one message's rows, and what to write for them."""

    kept: int
    dropped: int
    messages: Sequence[Outgoing]


def _pieces(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Yield the records in pieces, in order: a single one, or as many as take no more than `TOGETHER_BYTES`."""
    piece: list[Record] = []
    size = 0
    for record in records:
        size += len(record.value or b"")
        if piece and size > TOGETHER_BYTES:
            yield piece
            piece, size = [], len(record.value or b"")
        piece.append(record)
    if piece:
        yield piece


def _clean_some(cleaner: Cleaner, records: Sequence[Record]) -> Iterator[_Done]:
    """Clean the messages of each partition together: a look at a few rows costs about as much as one at thousands."""
    read = [record_batch(record, cleaner.pipeline) for record in records]
    batches: dict[int, list[pa.RecordBatch]] = {}
    for record, (_, rows) in zip(records, read, strict=True):
        batches.setdefault(record.partition, []).append(rows)
    cleaned = {partition: iter(cleaner.clean(partition, found)) for partition, found in batches.items()}
    for record, (raw, rows) in zip(records, read, strict=True):
        yield _written(cleaner, record, raw, rows, next(cleaned[record.partition]))


def _written(
    cleaner: Cleaner, record: Record, raw: record_pb2.RecordBatch, rows: pa.RecordBatch, cleaned: Cleaned
) -> _Done:
    clean = clean_message(raw, cleaned, cleaner.pipeline, record.partition)
    letters = _letters(cleaner, record, rows, cleaned.dropped)
    return _Done(cleaned.batch.num_rows, sum(cleaned.counts.values()), [clean, *letters])


def _letters(
    cleaner: Cleaner, record: Record, rows: pa.RecordBatch, rejections: Iterable[Rejection]
) -> Iterable[Outgoing]:
    found = list(rejections)
    if found and (suppression := cleaner.forgotten()):
        some = rows.take(pa.array([each.position for each in found], pa.int64()))
        gone = suppression.rows(some, cleaner.pipeline).tolist()
        found = [hushed(each) if is_gone else each for each, is_gone in zip(found, gone, strict=True)]
    for rejection in found:
        letter = dead_letter(rows, rejection, cleaner.pipeline, record.headers)
        yield letter.outgoing(cleaner.pipeline.own_name, record.partition)


def _count(cleaner: Cleaner, done: Sequence[_Done]) -> None:
    kept, dropped = sum(each.kept for each in done), sum(each.dropped for each in done)
    ROWS.labels(cleaner.pipeline.name, "kept").inc(kept)
    ROWS.labels(cleaner.pipeline.name, "dropped").inc(dropped)
    trace.get_current_span().set_attributes(
        {names.PIPELINE: cleaner.pipeline.name, names.ROWS: kept, names.REJECTED: dropped}
    )
