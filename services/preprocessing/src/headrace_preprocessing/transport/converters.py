"""Contracts to the core's types and back."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from google.protobuf.message import Message
from headrace.events.v1 import artifact_pb2, dataset_pb2, record_pb2, segment_pb2
from headrace_data.batches import INDEX, OFFSET, PARTITION, TIME, evolved, from_ipc, ipc_parts, lineage, require_columns
from headrace_data.cleaning import DUPLICATES, Cleaned, broken, duplicate_in_stream, squared_fields
from headrace_data.forgotten import FORGOTTEN, NOTHING_FORGOTTEN, Suppression
from headrace_data.forgotten import rejection as forgotten
from headrace_data.history import Entry
from headrace_data.leaks import Leaks
from headrace_data.manifest import Manifest, OffsetRange, Provenance, Ref
from headrace_data.personal import RULE as PERSONAL
from headrace_data.personal import masked
from headrace_data.records import RecordChecker, Rejection
from headrace_data.spec import Field, Pipeline
from headrace_data.stream_keys import NO_DUPLICATES, Duplicates
from headrace_data.windows import NO_REMARKS, Remarks
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka.envelopes import decode, encode_with, event_headers
from headrace_runtime.object_store import Artifact
from headrace_runtime.poison.bisection import CRASH
from headrace_runtime.record_topics import clean_topic
from headrace_runtime.records import Headers, Outgoing, Record
from headrace_runtime.stream.dead_letters import DeadLetter
from headrace_runtime.telemetry import names
from headrace_runtime.topics import PUSH_ACCEPTED

from headrace_preprocessing.core.filling import Filling

SOURCE = "preprocessing"
_FactT = TypeVar("_FactT", bound=Message)

logger = logging.getLogger(__name__)


_LEAST_ROW_BYTES = 16
"""A row takes at least the bytes that tell where it comes from."""
MOST_ROWS = 8 * 1024 * 1024 // _LEAST_ROW_BYTES
"""A message holds 8 MiB: it has no more rows."""


def own_message(record: Record, pipeline: Pipeline) -> record_pb2.RecordBatch:
    """Return a record batch message without a look at its rows. Raises Unprocessable when it is no such message."""
    message = decode(record, record_pb2.RecordBatch)
    if message.pipeline not in (pipeline.name, pipeline.own_name):
        raise Unprocessable(
            f"{record.coordinates}: expected a batch of pipeline {pipeline.name!r}, got one of {message.pipeline!r}"
        )
    return message


def record_batch(record: Record, pipeline: Pipeline) -> tuple[record_pb2.RecordBatch, pa.RecordBatch]:
    """Return a record batch message of a pipeline and its rows; those of before event times have the message's own.

    Rows of before a field was there, or as wide, have nulls or wider numbers.

    Raises Unprocessable and BatchInvalid when it is none, or when its rows are not those that it tells of, by their
    number and by the ranges that they come from.
    """
    message = own_message(record, pipeline)
    fields = pipeline.stream.incoming.fields
    rows = evolved(from_ipc(message.arrow, record.timestamp_ms), fields)
    if rows.num_rows != message.rows:
        raise Unprocessable(f"{record.coordinates}: expected {message.rows} rows, got {rows.num_rows}")
    require_columns(rows, fields)
    partitions, offsets, _ = lineage(rows)
    inside = np.zeros(len(rows), bool)
    for source in message.sources:
        inside |= (partitions == source.partition) & (offsets >= source.start) & (offsets < source.end)
    if not inside.all():
        told = ", ".join(f"{source.partition}:{source.start}-{source.end - 1}" for source in message.sources) or "none"
        row = int(np.argmin(inside))
        raise Unprocessable(
            f"{record.coordinates}: expected rows of the message's ranges ({told}), "
            f"got one of {partitions[row]}:{offsets[row]}"
        )
    return message, rows


def require_room(message: record_pb2.RecordBatch, record: Record) -> None:
    """Raise Unprocessable when a message says that it holds more rows than its bytes have room for."""
    held = len(message.arrow)
    most = held // _LEAST_ROW_BYTES
    if message.rows > most:
        raise Unprocessable(f"{record.coordinates}: expected at most {most} rows in {held} bytes, got {message.rows}")


def rows_told(message: record_pb2.RecordBatch) -> int:
    """Return how many rows a message says that it holds; 0 when that cannot be."""
    return int(message.rows) if message.rows <= MOST_ROWS else 0


def clean_message(raw: record_pb2.RecordBatch, cleaned: Cleaned, pipeline: Pipeline, partition: int) -> Outgoing:
    """Return cleaned rows as a message that accounts for the same ranges as the raw one."""
    message = record_pb2.RecordBatch(
        pipeline=pipeline.name,
        spec_digest=pipeline.digest,
        rows=cleaned.batch.num_rows,
        sources=raw.sources,
        rejected=Counter(raw.rejected) + Counter(cleaned.counts),
        masked=Counter(raw.masked) + Counter(cleaned.masked),
        unread=raw.unread,
        writer_schemas=raw.writer_schemas,
        topic_id=raw.topic_id,
        time_sources=raw.time_sources,
    )
    topic = clean_topic(pipeline.own_name)
    value = encode_with(message, "arrow", ipc_parts(cleaned.batch))
    return Outgoing(topic, None, value, event_headers(message, SOURCE), partition)


def dead_letter(rows: pa.RecordBatch, rejection: Rejection, pipeline: Pipeline, headers: Headers = ()) -> DeadLetter:
    """Return a dropped row as a dead letter; headers are those of the raw message, which tell of a replay.

    One that is dropped for personal data is told of without the texts that are looked at for it.
    """
    row = rows.slice(rejection.position, 1).to_pylist()[0]
    partition, offset = row[PARTITION], row[OFFSET]
    # As a producer would send it: a batch holds arrays flat.
    values = {field.name: _shaped(row[field.name], field) for field in pipeline.stream.fields}
    if rejection.rule == PERSONAL and (policy := pipeline.prepare.clean.personal):
        values = {name: value for name, value in values.items() if name not in policy.fields}
    seconds = row[TIME].timestamp() if row[TIME] else 0.0
    time = pipeline.stream.time
    if time is not None and row[TIME]:
        # As a float, which nobody compares with what the producer sent: that may be another form of the same time.
        values.setdefault(time, seconds)
    is_forgotten = rejection.forgotten or rejection.rule == FORGOTTEN
    key = None if is_forgotten else pipeline.stream.key_field
    if is_forgotten:
        values = {}
    letter = DeadLetter(
        stage=SOURCE,
        rule=rejection.rule,
        field=rejection.field,
        reason=rejection.reason,
        topic=pipeline.stream.topic if partition >= 0 else PUSH_ACCEPTED.name,
        partition=partition if partition >= 0 else -1 - partition,
        offset=offset,
        key=str(row[key.name]).encode() if key else None,
        value=json.dumps(values, separators=(",", ":")).encode(),
        timestamp_ms=round(seconds * 1_000),
        index=row[INDEX],
        # The row has other values in its personal fields than what was sent: that alone can be replayed.
        withheld=pipeline.stream.personal is not None or is_forgotten,
    )
    return letter.after_replay(headers)


def unreadable(record: Record, reason: str, pipeline: Pipeline, *, silent: bool = False) -> list[Outgoing]:
    """Return what becomes of a message whose rows cannot be read: a dead letter with its bytes, unless it is `silent`.

    Where the message still tells of the producers' ranges, an empty batch accounts for them.
    """
    value = b"" if silent else record.value
    letter = DeadLetter(SOURCE, CRASH, "", reason, record.topic, record.partition, record.offset, record.key, value)
    letter = replace(letter, withheld=silent)
    parked = [letter.outgoing(pipeline.own_name, record.partition)]
    try:
        raw = own_message(record, pipeline)
    except Unprocessable:
        return parked
    rows = RecordChecker(pipeline.stream.incoming.of_rows).check([], [], []).batch
    return [
        clean_message(raw, Cleaned(rows, [], {CRASH: rows_told(raw) or 1}, {}), pipeline, record.partition),
        *parked,
    ]


def _shaped(value: Any, field: Field) -> Any:
    return value if value is None or not field.shape else np.array(value, field.dtype).reshape(field.shape).tolist()


def source_ranges(message: record_pb2.RecordBatch) -> list[OffsetRange]:
    """Return the producers' ranges that a batch accounts for."""
    return [OffsetRange(partition=item.partition, start=item.start, end=item.end) for item in message.sources]


def time_sources(message: record_pb2.RecordBatch) -> set[str]:
    """Return where the times of a batch's rows come from, in the words of a dataset's provenance."""
    known = record_pb2.TimeSource.DESCRIPTOR.values_by_number
    told = {known[number].name for number in message.time_sources if number in known}
    return {name.removeprefix("TIME_SOURCE_").lower() for name in told}


class Left(NamedTuple):
    """A batch without the rows that no dataset can have."""

    rows: pa.RecordBatch
    """The others."""
    rejected: Mapping[str, int] = {}
    """How many these are, by rule."""
    letters: Sequence[Outgoing] = ()
    """Their dead letters."""
    masked: Mapping[str, int] = {}
    """What was masked in the others, by kind of personal data."""


def leave_out(
    rows: pa.RecordBatch,
    pipeline: Pipeline,
    duplicates: Duplicates = NO_DUPLICATES,
    suppression: Suppression = NOTHING_FORGOTTEN,
) -> Left:
    """Return rows without those that no dataset can have, and without `duplicates` and those of forgotten keys.

    Rows are checked when they come in and when they are cleaned; what waits may have been cleaned by an earlier spec.
    """
    rules = pipeline.prepare.clean
    rejections = broken(rows, pipeline.stream.fields, rules, squared_fields(pipeline))
    # Whatever else is wrong with them: their letters tell nothing of what they hold.
    rejections |= {row: forgotten(row) for row in np.flatnonzero(suppression.rows(rows, pipeline)).tolist()}
    for position in duplicates.among(rows).tolist():
        rejections.setdefault(position, duplicate_in_stream(position, pipeline))
    if not rejections:
        sound, masked_now = masked(rows, rules.personal)
        return Left(sound, masked=masked_now)
    kept = np.ones(len(rows), dtype=np.bool_)
    kept[list(rejections)] = False
    letters = [dead_letter(rows, rejection, pipeline) for _, rejection in sorted(rejections.items())]
    for letter in letters:
        if letter.rule not in (DUPLICATES, FORGOTTEN):
            place = f"{letter.partition}:{letter.offset} of {letter.topic}"
            logger.warning("row %s is left out: %s", place, letter.reason)
    # Every pipeline's dead-letter topic has a first partition; which one the row was cleaned in is not known here.
    outgoing = [letter.outgoing(pipeline.own_name, 0) for letter in letters]
    sound, masked_now = masked(rows.filter(pa.array(kept)), rules.personal)
    return Left(sound, Counter(letter.rule for letter in letters), outgoing, masked_now)


class Seen(NamedTuple):
    """What was counted of the rows of a cut, and of the pipeline's."""

    repeated_keys: int = 0
    """Rows whose key another row has."""
    late_rows: int = 0
    """Rows that came after later ones of their partition."""
    segments: int = 0
    """Segments that the pipeline has."""
    segment_rows: int = 0
    """Rows of these."""
    held_rows: int = 0
    """Rows of those that are held or were dropped."""
    remarks: Remarks = NO_REMARKS
    """What there is to say of the dataset."""
    awaiting_labels: int = 0
    """Rows that wait on for a label which comes later."""
    segment: Entry | None = None
    """The segment that the cut wrote; None where no cut led to the dataset."""


NOTHING_SEEN = Seen()
NOTHING_TOLD: Final[Mapping[str, Message]] = {}


def frozen_message(
    manifest: Manifest,
    stored: Artifact,
    pipeline: Pipeline,
    request: str = "",
    seen: Seen = NOTHING_SEEN,
    told: Mapping[str, Message] = NOTHING_TOLD,
) -> dataset_pb2.DatasetFrozen:
    """Return the announcement of a dataset; it answers a request. `told` are further fields of it, by name."""
    frozen = dataset_pb2.DatasetFrozen(
        pipeline=pipeline.name,
        dataset_id=manifest.dataset_id,
        spec_digest=pipeline.digest,
        manifest=_artifact(stored),
        rows=dataset_pb2.SplitRows(**{name: split.rows for name, split in manifest.splits.items()}),
        sources=[
            record_pb2.SourceRange(partition=item.partition, start=item.start, end=item.end)
            for item in manifest.provenance.sources
        ],
        rejected=manifest.provenance.rejected,
        request_id=request,
        incarnation=pipeline.incarnation,
        repeated_keys=seen.repeated_keys,
        late_rows=seen.late_rows,
        segments=seen.segments,
        segment_rows=seen.segment_rows,
        held_rows=seen.held_rows,
        masked=manifest.provenance.masked,
        unread=manifest.provenance.unread,
        writer_schemas=manifest.provenance.writer_schemas,
        rarest=dataset_pb2.ClassRows(**rarest._asdict()) if (rarest := seen.remarks.rarest) else None,
        outliers=[dataset_pb2.Outliers(**each._asdict()) for each in seen.remarks.outlying],
        leaks=_leaks(seen.remarks.leaks, manifest, pipeline) if seen.remarks.leaks is not None else None,
        awaiting_labels=seen.awaiting_labels,
        segment=_segment(seen.segment) if seen.segment is not None else None,
    )
    return telling(frozen, told)


def attributes_of(manifest: Manifest) -> dict[str, str | Sequence[str]]:
    """Return what the span of a dataset tells of it."""
    schemas = manifest.provenance.writer_schemas
    return {names.DATASET_ID: manifest.dataset_id, **({names.WRITER_SCHEMAS: schemas} if schemas else {})}


def _artifact(stored: Artifact | Ref) -> artifact_pb2.Artifact:
    return artifact_pb2.Artifact(uri=stored.uri, digest=stored.digest, size_bytes=stored.size_bytes)


def _segment(entry: Entry) -> segment_pb2.SegmentReference:
    return segment_pb2.SegmentReference(
        segment_id=entry.segment_id,
        manifest=_artifact(entry.manifest),
        sketch=_artifact(entry.sketch) if entry.sketch is not None else None,
        rows=entry.rows,
    )


def telling(fact: _FactT, told: Mapping[str, Message]) -> _FactT:
    """Set message fields of a fact, by name, and return it."""
    for name, message in told.items():
        getattr(fact, name).CopyFrom(message)
    return fact


def _leaks(leaks: Leaks, manifest: Manifest, pipeline: Pipeline) -> dataset_pb2.Leaks:
    def place(partition: int, offset: int) -> str:
        for source in manifest.provenance.backfilled:
            if source.number == partition:
                return f"{source.name}:{source.partition}:{offset}"
        if partition < 0:
            return f"{PUSH_ACCEPTED.name}:{-1 - partition}:{offset}"
        return f"{pipeline.stream.topic}:{partition}:{offset}"

    examples = [
        place(leak.partition, leak.offset) + (f" as {place(*leak.twin)}" if leak.twin else "")
        for leak in leaks.examples
    ]
    return dataset_pb2.Leaks(exact=leaks.exact, near=leaks.near, examples=examples)


class Origin(NamedTuple):
    """What the cluster calls itself and the producers' topic."""

    cluster_id: str
    topic_id: str


def provenance(
    filling: Filling,
    pipeline: Pipeline,
    origin: Origin,
    clean: Mapping[int, tuple[int, int]],
    left_out: Mapping[str, int],
    masked_now: Mapping[str, int],
) -> Provenance:
    """Return where a dataset comes from; `clean` holds start and end offset by partition of the clean topic.

    `left_out` counts rows of these that are not in it, by rule, and `masked_now` what was masked in them since they
    were cleaned, by an earlier spec.
    """
    return Provenance(
        cluster_id=origin.cluster_id,
        topic=pipeline.stream.topic,
        topic_id=origin.topic_id,
        sources=filling.ranges(),
        clean_ranges=tuple(
            OffsetRange(partition=partition, start=start, end=end) for partition, (start, end) in sorted(clean.items())
        ),
        rejected=dict(filling.rejected + Counter(left_out)),
        time_sources=tuple(sorted(filling.time_sources)),
        masked=dict(filling.masked + Counter(masked_now)),
        unread=dict(filling.unread),
        writer_schemas=tuple(sorted(filling.writer_schemas)),
    )
