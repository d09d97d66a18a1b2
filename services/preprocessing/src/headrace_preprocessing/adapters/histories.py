"""A pipeline's history: the newest message of the topic of cuts names it, and the object store keeps it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from google.protobuf.message import Message
from headrace.events.v1 import artifact_pb2, dataset_pb2, segment_pb2
from headrace_data.errors import DataError
from headrace_data.history import History, entry_of, prepared_by
from headrace_data.manifest import SegmentManifest
from headrace_data.spec import Pipeline
from headrace_runtime.errors import Corrupt, NotFound, Unprocessable
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import DATASET_FROZEN, SEGMENT_CUT, Topic

from headrace_preprocessing.adapters.settled import settled_ends

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Histories:
    """Reads and keeps the history of one pipeline. Whoever holds the right to freeze is the only writer."""

    settings: KafkaSettings
    pipeline: Pipeline
    store: ObjectStore

    def latest(self, beat: Callable[[], None]) -> History:
        """Return the history as of the last cut that was committed before the call.

        `beat` is called in between. Raises Unavailable when a transaction stays open, and Corrupt and NotFound when the
        store does not have the history.
        """
        latest: segment_pb2.SegmentCut | None = None
        for record in self._records(SEGMENT_CUT, beat):
            if record.value is not None and (cut := self._cut(record)) is not None:
                latest = cut
        if latest is not None:
            return History.from_json(self.store.get(latest.history))
        segments = {segment.segment_id: (segment, stored) for segment, stored in self._of_before(beat)}
        if not segments:
            return History(pipeline=self.pipeline.name)
        newest = segments[list(segments)[-1]][0]
        digests = (newest.schema_digest, newest.prepare_digest, newest.split_digest)
        entries = tuple(entry_of(segment, stored) for segment, stored in segments.values())
        return History(pipeline=self.pipeline.name, entries=entries, prepared=prepared_by(digests))

    def keep(self, history: History) -> Message:
        """Keep a history, and return the message that names it."""
        stored = self.store.put(history.to_json())
        return segment_pb2.SegmentCut(
            pipeline=self.pipeline.name,
            incarnation=self.pipeline.incarnation,
            history=artifact_pb2.Artifact(uri=stored.uri, digest=stored.digest, size_bytes=stored.size_bytes),
            segments=len(history.entries),
            rows=history.rows,
            watermark_us=history.watermark or 0,
            forgotten_keys=len(history.forgotten),
        )

    def _cut(self, record: Record) -> segment_pb2.SegmentCut | None:
        """Return what a message says of this pipeline, None when it is of another, or of nobody."""
        try:
            cut = decode(record, segment_pb2.SegmentCut)
        except Unprocessable as error:
            logger.warning("passed over %s: %s", record.coordinates, error)
            return None
        mine = (cut.pipeline, cut.incarnation) == (self.pipeline.name, self.pipeline.incarnation)
        return cut if mine else None

    def _of_before(self, beat: Callable[[], None]) -> Iterator[tuple[SegmentManifest, artifact_pb2.Artifact]]:
        """Yield what was frozen before there was a history, as far as Kafka and the store still have it."""
        for record in self._records(DATASET_FROZEN, beat):
            try:
                frozen = decode(record, dataset_pb2.DatasetFrozen)
            except Unprocessable:
                continue
            if (frozen.pipeline, frozen.incarnation) != (self.pipeline.name, self.pipeline.incarnation):
                continue
            try:
                yield SegmentManifest.from_json(self.store.get(frozen.manifest)), frozen.manifest
            except (DataError, NotFound, Corrupt) as error:
                logger.warning("dataset %s is no part of the history: %s", frozen.dataset_id, error)

    def _records(self, topic: Topic, beat: Callable[[], None]) -> Iterator[Record]:
        with LogReader(self.settings, f"preprocessing.history.{self.pipeline.own_name}") as reader:
            places = reader.partitions(topic.name)
            reader.start_at(dict.fromkeys(places))
            for records in reader.read_to(settled_ends(self.settings, reader, places, beat)):
                beat()
                yield from records
