"""Takes history into a pipeline, as a request asks: files in the object store, or a range of a topic.

Everything is written under its digest before anything is announced, and the history names it in the transaction that
answers the request. Whoever is killed in between leaves parts that nobody names, and the next instance begins anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1 import backfill_pb2, dataset_pb2
from headrace_data.backfill import Backfill, Refused, timed
from headrace_data.canonical import canonical, sha256_digest
from headrace_data.decoders import schemas_of
from headrace_data.errors import DataError, DatasetUnusable, FileInvalid
from headrace_data.files import Rows, rows_of_file
from headrace_data.history import History, prepared_under
from headrace_data.manifest import Provenance
from headrace_data.private import Keys
from headrace_data.rebuild import Log, Rebuild
from headrace_data.spec import Last, Pipeline, Stream
from headrace_data.windows import Windows
from headrace_runtime.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound, Unprocessable
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.schema_registry import RegistryAccess
from headrace_runtime.stream.dead_letters import DeadLetter
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import tracer

from headrace_preprocessing.ports import TopicRanges
from headrace_preprocessing.transport.blobs import Blobs
from headrace_preprocessing.transport.orders import TakenIn, nothing_of
from headrace_preprocessing.transport.suppressing import suppression_of

logger = logging.getLogger(__name__)

STAGE = "backfill"
_FOREVER_MS = 2**53
"""Later than any record."""
_NEVER = (DataError, NotFound, Corrupt, InvalidInput, FailedPrecondition, Unprocessable)
"""What no later attempt does better."""


class Backfills:
    """The backfills of one pipeline."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: ObjectStore,
        topics: TopicRanges,
        cluster_id: Callable[[], str],
        keys: Keys,
        registries: RegistryAccess,
    ) -> None:
        """`keys` has the key of personal fields."""
        self._pipeline = pipeline
        self._store = store
        self._topics = topics
        self._cluster_id = cluster_id
        self._keys = keys
        self._registries = registries

    def take_in(
        self, request: dataset_pb2.DatasetRequested, asked_s: float, history: History, beat: Callable[[], None]
    ) -> TakenIn:
        """Take in what a request of this time (seconds since 1970) asks for; all of it or nothing.

        `beat` is called in between. Raises Unavailable when the store or the broker is away.
        """
        wanted = request.backfill
        try:
            done = self._taken(wanted, asked_s, history, beat)
        except _NEVER as error:
            return nothing_of("backfill", history, str(error))
        told = backfill_pb2.Backfilled(rows=done.rows, rejected=done.rejected, known=done.known, faults=done.faults)
        letters = (
            [_letter(refused).outgoing(self._pipeline.own_name, 0) for refused in done.refused] if done.rows else []
        )
        logger.info("backfill %s: %s rows are new, %s were known", request.request_id, done.rows, done.known)
        windows = Windows(self._pipeline, Blobs(self._store), beat, fresh=done.fresh)
        try:
            manifest, history = windows.dataset(done.history)
        except DataError as error:
            # It is not tried again before the next cut.
            history = windows.known(done.history).model_copy(update={"prepared": prepared_under(self._pipeline)})
            reason = f"the backfill is done: {_counted(done)}. No dataset came of it: {error}"
            return TakenIn(history, None, reason, done.rows, {}, letters)
        return TakenIn(history, manifest, "", done.rows, {"backfilled": told}, letters, windows.remarks)

    def _taken(
        self, wanted: backfill_pb2.Backfill, asked_s: float, history: History, beat: Callable[[], None]
    ) -> Backfill | Rebuild:
        if wanted.rebuild:
            return self._rebuilt(wanted.topic, asked_s, history, beat)
        suppression = suppression_of(self._store, self._pipeline, history)
        stream = self._pipeline.stream
        if wanted.time:
            stream = timed(stream, wanted.time)
        if not wanted.HasField("topic"):
            # Rows of files are made into JSON, whatever the producers write.
            stream = stream.in_json
        schemas = schemas_of(stream, self._registries)
        done = Backfill(
            self._pipeline, self._store, history, stream, asked_s, beat, self._keys, schemas, suppression, self._store
        )
        if wanted.HasField("topic"):
            self._take_topic(wanted.topic, asked_s, done)
        else:
            self._take_files(wanted, stream, done, beat)
        done.require_rows()
        return done

    def _rebuilt(
        self, wanted: backfill_pb2.BackfillTopic, asked_s: float, history: History, beat: Callable[[], None]
    ) -> Rebuild:
        start_us = 1_000 * _moment_ms(wanted.start_time) if wanted.HasField("start_time") else None
        end_us = 1_000 * _moment_ms(wanted.end_time) if wanted.HasField("end_time") else None
        topic = self._pipeline.stream.topic
        # Ranges are those of the segments, whenever their records were written.
        topic_id, bounds = self._topics.of(topic, None, _FOREVER_MS)
        schemas = schemas_of(self._pipeline.stream, self._registries)
        suppression = suppression_of(self._store, self._pipeline, history)
        done = Rebuild(
            self._pipeline, self._store, history, asked_s, beat, self._keys, schemas, suppression, self._store
        )
        done.take(Log(topic_id, bounds, partial(self._rows, topic)), start_us, end_us)
        done.require_rows()
        return done

    def _take_files(
        self, wanted: backfill_pb2.Backfill, stream: Stream, done: Backfill, beat: Callable[[], None]
    ) -> None:
        window = self._pipeline.prepare.window
        if stream.time is None and isinstance(window, Last):
            raise DatasetUnusable(
                "expected the name of the column with the event time, got none: the window counts back by it, "
                "and would never take rows that have none"
            )
        nowhere = self._provenance()
        # A stream in CSV knows which of several columns of one name is which.
        written = stream.model_copy(update={"format": self._pipeline.stream.format})
        for file in wanted.files:
            source = done.source(file.name, file.artifact.digest)
            if done.has(source):
                continue
            try:
                with self._store.open(file.artifact, beat) as opened:
                    done.take(source, rows_of_file(opened, file.format, written), nowhere)
            except (FileInvalid, NotFound, Corrupt) as error:
                raise FileInvalid(f"{file.name}: {error}") from error

    def _take_topic(self, wanted: backfill_pb2.BackfillTopic, asked_s: float, done: Backfill) -> None:
        start_ms = _moment_ms(wanted.start_time) if wanted.HasField("start_time") else None
        # What is written after the request is no part of it, however often it is begun.
        end_ms = _moment_ms(wanted.end_time) if wanted.HasField("end_time") else round(asked_s * 1_000)
        topic_id, ranges = self._topics.of(wanted.topic, start_ms, end_ms)
        nowhere = self._provenance()
        for partition, (start, end) in sorted(ranges.items()):
            digest = sha256_digest(canonical([topic_id or wanted.topic, partition]))
            for first, behind in done.missing(digest, start, end):
                source = done.source(wanted.topic, digest, partition, first, behind)
                done.take(source, self._rows(wanted.topic, partition, first, behind), nowhere)

    def _rows(self, topic: str, partition: int, start: int, end: int) -> Iterator[Rows]:
        """Yield the records of a range, with a span of their own: reading is what a backfill takes long for."""
        place = {names.MESSAGING_DESTINATION: topic, names.MESSAGING_PARTITION: str(partition)}
        span = tracer.start_span(names.SPAN_READ, attributes={**place, names.MESSAGING_OFFSET: start})
        try:
            yield from self._topics.rows(topic, partition, start, end)
        finally:
            span.end()

    def _provenance(self) -> Provenance:
        topic = self._pipeline.stream.topic
        return Provenance(
            cluster_id=self._cluster_id(), topic=topic, topic_id="", sources=(), clean_ranges=(), rejected={}
        )


def _letter(refused: Refused) -> DeadLetter:
    source, rejection = refused.source, refused.rejection
    return DeadLetter(
        stage=STAGE,
        rule=rejection.rule,
        field=rejection.field,
        reason=rejection.reason,
        topic=source.name,
        partition=source.partition,
        offset=refused.number,
        key=None,
        value=refused.value,
        timestamp_ms=(refused.time_us or 0) // 1_000,
        withheld=refused.withheld is not None,
        value_bytes=refused.withheld or 0,
    )


def _counted(done: Backfill | Rebuild) -> str:
    rejected = ", ".join(f"{rule} {count}" for rule, count in sorted(done.rejected.items()))
    return f"{done.rows} rows are new, {done.known} were there" + (f", rejected: {rejected}" if rejected else "")


def _moment_ms(stamp: Timestamp) -> int:
    try:
        moment = stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"expected a time of the years 1 to 9999: {error}") from error
    return max(0, round(moment.timestamp() * 1_000))
