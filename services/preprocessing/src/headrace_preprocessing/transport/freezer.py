"""Freezes datasets: watches a pipeline's clean topic fill, and cuts it when a dataset is due.

The instance that owns clean partition 0 freezes, fenced by the transactional id `freeze.<pipeline>`. Part files are
written first, under their digests; the announcement and the offsets up to the cut follow in one transaction. Whoever is
killed in between leaves parts that nobody names, and the next instance cuts the same range to the same id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing

from google.protobuf.message import Message
from headrace.events.v1 import dataset_pb2, record_pb2
from headrace_data.dataset import DatasetWriter
from headrace_data.errors import DataError
from headrace_data.manifest import Manifest
from headrace_data.spec import Pipeline
from headrace_runtime import telemetry_names as names
from headrace_runtime.kafka import EventProducer, GroupConsumer, LogReader, TransactionalProducer
from headrace_runtime.kafka.consumers import Place
from headrace_runtime.messages import Record, decode, encode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.service import Background
from headrace_runtime.telemetry import links_to, tracer
from headrace_runtime.topics import DATASET_REQUESTED, clean_topic
from opentelemetry import trace

from headrace_preprocessing.adapters.clean_log import rows_between
from headrace_preprocessing.core.filling import Filling
from headrace_preprocessing.settings import Settings
from headrace_preprocessing.transport.converters import SOURCE, frozen_message, provenance, source_ranges

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 0.2
PROGRESS_EVERY_S = 0.5


class Freezer(Background):
    """Cuts the datasets of one pipeline."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, events: EventProducer, cluster: Mapping[str, str]
    ) -> None:
        super().__init__(f"freeze.{pipeline.name}")
        self._settings = settings
        self._pipeline = pipeline
        self._events = events
        self._cluster = cluster
        self._store = ObjectStore(settings.store_url)

    def run(self) -> None:
        """Compete for the lease, and freeze while it is held, until stopped."""
        topic = clean_topic(self._pipeline.name)
        consumer = GroupConsumer(self._settings, group=self.name, topics=[topic], instance=self._settings.instance)
        with closing(consumer):
            lease = _Lease(consumer, (topic, 0))
            while not self.stopping.is_set():
                if lease.held():
                    self._freeze_while(lease)

    def _freeze_while(self, lease: _Lease) -> None:
        logger.info("%s: this instance freezes", self.name)
        producer = TransactionalProducer(self._settings, self.name)
        with closing(producer), LogReader(self._settings, self.name) as reader:
            places = reader.partitions(lease.place[0]) + reader.partitions(DATASET_REQUESTED.name)
            watch = _Watch(reader, self._pipeline, lease.consumer.committed(places))
            while lease.held() and not self.stopping.is_set():
                watch.look()
                self._tell(watch)
                if watch.filling.due(self._pipeline.prepare.freeze, time.monotonic()):
                    self._cut(watch, lease, producer)

    def _tell(self, watch: _Watch) -> None:
        if not watch.worth_telling():
            return
        policy, filling = self._pipeline.prepare.freeze, watch.filling
        self._events.publish(
            dataset_pb2.DatasetProgressed(
                pipeline=self._pipeline.name,
                rows=filling.rows,
                rows_wanted=policy.after_records or 0,
                rejected=filling.rejected,
            )
        )

    def _cut(self, watch: _Watch, lease: _Lease, producer: TransactionalProducer) -> None:
        """Turn what waits into a dataset, or into the reason why not, and go on behind it."""
        filling = watch.filling
        attributes: dict[str, str | int] = {names.PIPELINE: self._pipeline.name, names.ROWS: filling.rows}
        with tracer.start_as_current_span(names.SPAN_FREEZE, attributes=attributes, links=watch.links()) as span:
            ends = watch.positions()
            fact: Message
            try:
                manifest = self._write(watch, ends, lease)
            except DataError as error:
                logger.warning("%s: no dataset: %s", self.name, error)
                fact = dataset_pb2.DatasetFailed(
                    pipeline=self._pipeline.name, reason=str(error), request_id=filling.request_id
                )
                # The rows stay: they will be part of the next cut. Only the request is done with.
                ends = {place: end for place, end in ends.items() if place[0] == DATASET_REQUESTED.name}
            else:
                span.set_attribute(names.DATASET_ID, manifest.dataset_id)
                with tracer.start_as_current_span(names.SPAN_MANIFEST):
                    stored = self._store.put(manifest.to_json())
                fact = frozen_message(manifest, stored, filling, self._pipeline)
            with tracer.start_as_current_span(names.SPAN_TRANSACTION), producer.transaction() as transaction:
                transaction.send([encode(fact, source=SOURCE)])
                transaction.commit_offsets(ends, lease.consumer.group_metadata())
        watch.done(ends, frozen=isinstance(fact, dataset_pb2.DatasetFrozen))

    def _write(self, watch: _Watch, ends: Mapping[Place, int], lease: _Lease) -> Manifest:
        topic = clean_topic(self._pipeline.name)
        clean_ends = {place: end for place, end in ends.items() if place[0] == topic}
        writer = DatasetWriter(self._pipeline, self._store)
        for rows in rows_between(self._settings, self._pipeline.name, watch.starts, clean_ends, self._settings.stall_s):
            writer.add(rows)
            # However long the range is, the membership stays alive; a lost one is found out by the transaction.
            lease.held()
        clean = {place[1]: (watch.starts[place] or 0, end) for place, end in clean_ends.items()}
        return writer.finish(provenance(watch.filling, self._pipeline, self._cluster, clean))


class _Lease:
    """Clean partition 0: whoever owns it freezes."""

    def __init__(self, consumer: GroupConsumer, place: Place) -> None:
        self.consumer = consumer
        self.place = place

    def held(self) -> bool:
        """Keep the membership alive, and tell whether the partition is ours. Nothing is read through the group."""
        self.consumer.pause()
        self.consumer.poll(0.05)
        return self.place in self.consumer.assignment()


class _Watch:
    """Reads clean batches and requests as they come, and counts what has not been cut yet."""

    def __init__(self, reader: LogReader, pipeline: Pipeline, starts: Mapping[Place, int | None]) -> None:
        self._reader = reader
        self._pipeline = pipeline
        self.starts = dict(starts)
        self.filling = Filling()
        self._recent: list[Record] = []
        self._told = (0.0, -1)
        reader.start_at(starts)

    def look(self) -> None:
        """Take in what has come."""
        for record in self._reader.poll(POLL_TIMEOUT_S):
            if record.topic == DATASET_REQUESTED.name:
                request = decode(record, dataset_pb2.DatasetRequested)
                if request.pipeline == self._pipeline.name:
                    self.filling.request_id = request.request_id
            else:
                batch = decode(record, record_pb2.RecordBatch)
                self.filling.add(batch.rows, batch.rejected, source_ranges(batch), time.monotonic())
            self._recent = [*self._recent, record][-32:]

    def worth_telling(self) -> bool:
        """Tell whether there is news since the last time, which is some while ago."""
        now, (told_s, told_rows) = time.monotonic(), self._told
        if self.filling.rows == told_rows or now - told_s < PROGRESS_EVERY_S:
            return False
        self._told = (now, self.filling.rows)
        return True

    def links(self) -> list[trace.Link]:
        """Return links to the traces of the newest batches."""
        return links_to(record.headers for record in self._recent)

    def positions(self) -> dict[Place, int]:
        """Return how far everything counted so far reaches."""
        return {place: self._reader.position(place) for place in self.starts}

    def done(self, ends: Mapping[Place, int], *, frozen: bool) -> None:
        """Start counting anew behind a cut; after a failed one, keep the rows and wait for more."""
        self.starts |= ends
        if frozen:
            self.filling = Filling()
        else:
            self.filling.request_id = ""
            self.filling.failed_rows = self.filling.rows
