"""Freezes datasets: watches a pipeline's clean topic fill, and cuts it when a dataset is due.

The instance that owns clean partition 0 freezes, fenced by the transactional id `freeze.<pipeline>`. Part files are
written first, under their digests; the announcement and the offsets up to the cut follow in one transaction. Whoever is
killed in between leaves parts that nobody names, and the next instance begins at the same offsets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial

from google.protobuf.message import Message
from headrace.events.v1 import dataset_pb2
from headrace_data.errors import DataError, DatasetUnusable
from headrace_data.history import History, prepared_under
from headrace_data.lateness import Lateness
from headrace_data.manifest import Manifest
from headrace_data.recall import Recall
from headrace_data.repeats import Repeats
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline
from headrace_data.stream_keys import newest_keys
from headrace_data.windows import Windows
from headrace_runtime.kafka import EventProducer, Fenced, GroupConsumer, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.kafka.gaps import DELETED_UNREAD
from headrace_runtime.kafka.producers import MembershipLost
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.service import Background
from headrace_runtime.record_topics import clean_topic
from headrace_runtime.records import Outgoing, Place
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import links_to, tracer
from headrace_runtime.topics import DATASET_REQUESTED
from prometheus_client import Counter

from headrace_preprocessing.core.filling import rows_wanted
from headrace_preprocessing.ports import Outside
from headrace_preprocessing.settings import Settings
from headrace_preprocessing.transport.attempts import MOST_BEGUN, begin
from headrace_preprocessing.transport.blobs import Blobs
from headrace_preprocessing.transport.clean_messages import CleanMessages
from headrace_preprocessing.transport.completing import completed
from headrace_preprocessing.transport.converters import (
    NOTHING_SEEN,
    NOTHING_TOLD,
    SOURCE,
    Origin,
    Seen,
    attributes_of,
    frozen_message,
    provenance,
    telling,
)
from headrace_preprocessing.transport.cut_rows import Read, cut_rows, written
from headrace_preprocessing.transport.holds import Holds, show_held
from headrace_preprocessing.transport.late_labels import NO_LABELS, LateLabels, late_labels_of, settle
from headrace_preprocessing.transport.lease import Lease
from headrace_preprocessing.transport.orders import NOTHING_AFTERWARDS, ORDERS, Order, TakenIn, nothing_of
from headrace_preprocessing.transport.suppressing import suppression_of, told_of
from headrace_preprocessing.transport.takers import takers
from headrace_preprocessing.transport.watch import UNFROZEN, Asked, Watch

logger = logging.getLogger(__name__)

ROWS_MISSING = Counter(
    "headrace_freeze_rows_missing", "Clean rows that were counted and could not be frozen.", ["pipeline"]
)

AWAIT_S = 0.05
"""How often it is looked whether every spec was taken in that was applied."""
NOTHING_NEW = "no clean record since the last dataset"


class Freezer(Background):
    """Cuts the datasets of one pipeline."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        events: EventProducer,
        origin: Callable[[], Origin],
        messages: CleanMessages,
        tell: Callable[[str, str], None],
        outside: Outside,
    ) -> None:
        """`origin` asks the cluster, when a dataset is cut: the topic may have been made anew.

        `tell` is called with what is wrong about what.
        """
        super().__init__(f"freeze.{pipeline.own_name}")
        self._settings = settings
        self._pipeline = pipeline
        self._events = events
        self._origin = origin
        self._messages = messages
        self._tell_trouble = tell
        self._store = ObjectStore(settings.store_url)
        self._rows_between = outside.rows_between
        self._histories = outside.histories
        self._takers = takers(pipeline, self._store, outside, lambda: origin().cluster_id, settings.registry_access)
        self._blobs = Blobs(self._store)
        self._holds = Holds(pipeline, self._blobs)
        self._late = late_labels_of(pipeline, self._blobs, outside.keys, settings.registry_access)
        self._history = History(pipeline=pipeline.name)
        self._recall = Recall()
        self.freezes = threading.Event()
        """Set while this instance freezes."""

    def run(self) -> None:
        """Compete for the lease, and freeze while it is held, until stopped."""
        topic = clean_topic(self._pipeline.own_name)
        consumer = GroupConsumer(self._settings, group=self.name, topics=[topic], instance=self._settings.instance)
        with closing(consumer):
            lease = Lease(consumer, (topic, 0))
            self.wake = consumer.wake
            while not self.stopping.is_set():
                self.on_round()
                if not lease.awaited(self.stopping.is_set):
                    continue
                try:
                    self.freezes.set()
                    self._freeze_while(lease)
                    self.wake = consumer.wake
                except (Fenced, MembershipLost) as error:
                    # Nothing was written. Whoever holds the lease now begins where the last dataset ended.
                    logger.warning("%s: the lease has moved: %s", self.name, error)
                finally:
                    show_held(self._pipeline.name, None)
                    self.freezes.clear()

    def _freeze_while(self, lease: Lease) -> None:
        logger.info("%s: this instance freezes", self.name)
        producer = TransactionalProducer(self._settings, self.name)
        with closing(producer), LogReader(self._settings, self.name) as reader:
            places = reader.partitions(lease.place[0]) + reader.partitions(DATASET_REQUESTED.name)
            places += reader.partitions(self._late.topic) if self._late else []
            starts = lease.consumer.committed(places)
            watch = Watch(reader, self._pipeline, self._messages, starts, lambda: self._origin().topic_id, self._late)
            for gap in watch.gaps:
                DELETED_UNREAD.labels(gap.place[0]).inc(gap.end - gap.start)
                logger.warning("%s: %s", self.name, gap.reason)
                self._tell_trouble(str(gap), watch.lost(gap))
            self.wake = reader.wake
            # What a former owner wrote is committed or aborted by now: the producer has fenced it.
            self._history = self._histories.latest(lease.keep)
            if self._late:
                self._late.begin(self._history.awaiting)
                self._late.forgotten = lambda: told_of(self._store, self._pipeline, self._history)
            self._prepare_again(lease, producer)
            while lease.held() and not self.stopping.is_set() and not watch.has_grown:
                self.on_round()
                show_held(self._pipeline.name, self._history)
                watch.look(self.stopping.is_set)
                self._tell(watch)
                if watch.left_out:
                    self._leave_out(watch, lease, producer)
                if self._late and self._late.are_many:
                    self._keep_labels(self._late, watch, lease, producer)
                while not self.stopping.is_set() and (asked := watch.turn) and (order := asked.order):
                    self._carry_out(order, asked, watch, lease, producer)
                is_due = watch.filling.due(self._pipeline.prepare.freeze, time.monotonic(), int(time.time() * 1_000))
                # What was cleaned by a spec to come may have fields that this one does not know.
                if is_due and watch.has_what_was_asked_for() and self._messages.known(watch.specs):
                    self._cut(watch, lease, producer)

    def _tell(self, watch: Watch) -> None:
        if not watch.worth_telling():
            return
        filling = watch.filling
        self._events.publish(
            dataset_pb2.DatasetProgressed(
                pipeline=self._pipeline.name,
                rows=filling.usable,
                rows_wanted=rows_wanted(self._pipeline.prepare.freeze),
                rejected=filling.rejected,
                incarnation=self._pipeline.incarnation,
                awaiting_labels=filling.awaiting,
            )
        )

    def _leave_out(self, watch: Watch, lease: Lease, producer: TransactionalProducer) -> None:
        """Say which rows are part of no dataset, and go on behind them whoever freezes next."""
        for reason in watch.left_out:
            logger.warning("%s: %s", self.name, reason)
        facts = [self._failure(reason) for reason in watch.left_out]
        with producer.transaction() as transaction:
            transaction.send(encode(fact, source=SOURCE) for fact in facts)
            transaction.commit_offsets(watch.starts, lease.consumer.membership())
        watch.left_out.clear()

    def _keep_labels(self, late: LateLabels, watch: Watch, lease: Lease, producer: TransactionalProducer) -> None:
        """Keep the labels that came since the last cut in the store, whether there are rows or not."""
        gone = suppression_of(self._store, self._pipeline, self._history)
        joined = late.join(self._history.awaiting, "", gone).labels_alone(uncut=bool(watch.filling.rows or late.ready))
        history = self._history.model_copy(update={"awaiting": joined.awaiting})
        with producer.transaction() as transaction:
            transaction.send([encode(self._histories.keep(history), source=SOURCE), *late.letters])
            transaction.commit_offsets(ends := watch.label_positions(), lease.consumer.membership())
        watch.starts |= ends
        self._history = history
        late.kept(joined)

    def _prepare_again(self, lease: Lease, producer: TransactionalProducer) -> None:
        """Make a dataset of the segments that exist, when the newest one was prepared in another way."""
        history = self._history
        if not history.prepared or history.prepared == prepared_under(self._pipeline):
            return
        # It may have been prepared by a spec to come, which stops this freezer once it is taken in.
        while not self._messages.known({history.prepared}):
            if self.stopping.wait(AWAIT_S):
                return
            lease.keep()
        if self.stopping.is_set():
            return
        attributes: dict[str, str | int] = {names.PIPELINE: self._pipeline.name}
        with tracer.start_as_current_span(names.SPAN_FREEZE, attributes=attributes):
            windows = Windows(self._pipeline, self._blobs, lease.keep, recall=self._recall)
            try:
                manifest, history = windows.dataset(history)
                facts: list[Message] = [self._frozen(manifest, history, seen=Seen(remarks=windows.remarks))]
            except DataError as error:
                logger.warning("%s: no dataset of the segments that exist: %s", self.name, error)
                # It is not tried again before the next cut.
                history = windows.known(history).model_copy(update={"prepared": prepared_under(self._pipeline)})
                facts = [self._failure(f"of the rows that there are: {error}")]
            with producer.transaction() as transaction:
                facts.append(self._histories.keep(history))
                transaction.send(encode(fact, source=SOURCE) for fact in facts)
        self._history = history

    def _carry_out(
        self, order: Order, asked: Asked, watch: Watch, lease: Lease, producer: TransactionalProducer
    ) -> None:
        """Do what a request orders, and announce the dataset of what there is then, or why there is none."""

        def beat() -> None:
            lease.keep()
            if self.stopping.is_set():
                # Nothing was announced: whoever freezes next begins it anew.
                raise MembershipLost(f"{self.name}: stopped during a {ORDERS[order].noun}")

        record, request = asked
        attributes: dict[str, str | int] = {names.PIPELINE: self._pipeline.name}
        links = links_to([record.headers])
        with tracer.start_as_current_span(ORDERS[order].span, attributes=attributes, links=links) as span:
            if (begun := begin(asked, lease, producer)) < MOST_BEGUN:
                taken = self._takers[order](request, record.timestamp_ms / 1_000, self._history, beat)
            else:
                reason = f"it was begun {begun} times, and each process ended meanwhile"
                taken = nothing_of(order, self._history, reason)
            span.set_attribute(names.ROWS, taken.rows)
            facts: list[Message] = [self._histories.keep(taken.history)] if taken.history != self._history else []
            if taken.ended is not None:
                facts.append(taken.ended)
            elif taken.manifest is None:
                logger.warning("%s: %s", self.name, taken.reason)
                facts.append(self._failure(taken.reason, request.request_id, taken.told))
            else:
                seen = Seen(remarks=taken.remarks, segment=taken.entry)
                facts.append(self._frozen(taken.manifest, taken.history, request.request_id, seen, taken.told))
            with tracer.start_as_current_span(names.SPAN_TRANSACTION), producer.transaction() as transaction:
                transaction.send([*(encode(fact, source=SOURCE) for fact in facts), *taken.letters])
                transaction.commit_offsets({record.place: record.offset + 1}, lease.consumer.membership())
        watch.carried_out()
        self._history = taken.history
        taken.done()
        if taken.ended is not None:
            self._prepare_again(lease, producer)

    def _cut(self, watch: Watch, lease: Lease, producer: TransactionalProducer) -> None:
        """Turn what waits into a dataset, or into the reason why not, and go on behind it."""
        filling = watch.filling
        attributes: dict[str, str | int] = {names.PIPELINE: self._pipeline.name, names.ROWS: filling.rows}
        with tracer.start_as_current_span(names.SPAN_FREEZE, attributes=attributes, links=watch.links()) as span:
            ends, frozen = watch.positions(), False
            facts: list[Message]
            letters: list[Outgoing] = []
            try:
                repeats, lateness = Repeats(self._pipeline), Lateness()
                cut = self._write(watch, ends, lease, letters, (repeats, lateness))
            except DataError as error:
                logger.warning("%s: no dataset: %s", self.name, error)
                facts = self._failures(str(error), filling.requests or [""])
                # The rows stay: they will be part of the next cut. Only the requests are done with.
                ends = {place: end for place, end in ends.items() if place[0] == DATASET_REQUESTED.name}
            else:
                # One dataset answers one request; to those that came after it nothing is left.
                facts = self._failures(NOTHING_NEW, filling.requests[1:])
                request = (*filling.requests, "")[0]
                seen = Seen(repeats.rows, lateness.rows, remarks=cut.remarks, segment=cut.entry)
                facts.append(self._histories.keep(cut.history))
                if cut.manifest is None:
                    logger.warning("%s: no dataset: %s", self.name, cut.reason)
                    # Nobody asked, and rows wait for their labels: there is nothing to tell.
                    is_news = request or cut.reason != NO_LABELS
                    facts += [self._failure(cut.reason, request, cut.told)] if is_news else []
                else:
                    span.set_attributes(attributes_of(cut.manifest))
                    facts.append(self._frozen(cut.manifest, cut.history, request, seen))
                frozen = True
            # Rows that were left out of a dataset that failed are part of the next range, and told of then.
            with tracer.start_as_current_span(names.SPAN_TRANSACTION), producer.transaction() as transaction:
                transaction.send([*(encode(fact, source=SOURCE) for fact in facts), *(letters if frozen else [])])
                transaction.commit_offsets(ends, lease.consumer.membership())
        watch.done(ends, frozen=frozen)
        if frozen:
            self._history = cut.history
            cut.done()

    def _frozen(
        self,
        manifest: Manifest,
        history: History,
        request: str = "",
        seen: Seen = NOTHING_SEEN,
        told: Mapping[str, Message] = NOTHING_TOLD,
    ) -> Message:
        """Keep a manifest, and return what announces it."""
        with tracer.start_as_current_span(names.SPAN_MANIFEST):
            stored = self._store.put(manifest.to_json())
        held_rows = history.rows - history.counting.rows
        awaiting = history.awaiting.row_count if history.awaiting else 0
        seen = seen._replace(segments=len(history.entries), segment_rows=history.rows)
        seen = seen._replace(held_rows=held_rows, awaiting_labels=awaiting)
        return frozen_message(manifest, stored, self._pipeline, request, seen, told)

    def _failures(self, reason: str, requests: Sequence[str]) -> list[Message]:
        return [self._failure(reason, request) for request in requests]

    def _failure(
        self, reason: str, request: str = "", told: Mapping[str, Message] = NOTHING_TOLD
    ) -> dataset_pb2.DatasetFailed:
        failed = dataset_pb2.DatasetFailed(
            pipeline=self._pipeline.name, reason=reason, request_id=request, incarnation=self._pipeline.incarnation
        )
        return telling(failed, told)

    def _write(
        self,
        watch: Watch,
        ends: Mapping[Place, int],
        lease: Lease,
        letters: list[Outgoing],
        counts: Sequence[Repeats | Lateness],
    ) -> TakenIn:
        """Write what waits as a segment, and return the dataset that it completes, and the history with it.

        Its rows go to `counts`; rows that no dataset can have become `letters`.
        """
        if not watch.filling.rows + watch.filling.usable:
            raise DatasetUnusable(NOTHING_NEW)
        clean_ends = {place: end for place, end in ends.items() if place[0] == clean_topic(self._pipeline.own_name)}
        writer = SegmentWriter(self._pipeline, self._blobs)
        read = self._reading(watch, clean_ends)
        gone = suppression_of(self._store, self._pipeline, self._history)
        join = self._late.join(self._history.awaiting, watch.lives.topic_id, gone) if self._late else None
        read = partial(join.rows, read) if join else read
        before = partial(newest_keys, self._history, self._pipeline, self._store, lease.keep)
        cut = cut_rows(read, self._pipeline, lease.keep, before, gone)
        left_out, masked = written(cut, writer, letters, counts)
        if missing := watch.missing(join.fresh if join else writer.rows + len(letters), clean_ends):
            self._tell_missing(watch, *missing)
        history, told, done = self._history, watch.filling, NOTHING_AFTERWARDS
        if self._late and join:
            letters += self._late.letters
            joined, history, told = settle(join, history, watch.filling, writer.rows, left_out, masked)
            done = partial(self._late.done, joined)
            if not writer.rows:
                return TakenIn(history, None, NO_LABELS, done=done)
        clean = {place[1]: (watch.starts[place], end) for place, end in clean_ends.items()}
        source = provenance(told, self._pipeline, self._origin_of(watch), clean, left_out, masked)
        segment = writer.finish(source, lease.keep)
        windows = Windows(
            self._pipeline, self._blobs, lease.keep, {segment.manifest.segment_id: segment.sketch}, self._recall
        )
        return completed(segment, history, windows, self._holds)._replace(done=done)

    def _origin_of(self, watch: Watch) -> Origin:
        origin = self._origin()
        return origin._replace(topic_id=watch.lives.topic_id or origin.topic_id)

    def _reading(self, watch: Watch, ends: Mapping[Place, int]) -> Read:
        """Return what reads the clean rows that wait, as far as these ends."""
        read = partial(self._messages.rows, without=watch.lives.gone)
        name, stall_s = self._pipeline.own_name, self._settings.stall_s
        return partial(self._rows_between, name, watch.starts, ends, stall_s, read)

    def _tell_missing(self, watch: Watch, ranges: str, reason: str) -> None:
        """Say that rows which were counted could not be read any more, here and in the dataset."""
        logger.warning("%s: %s", self.name, reason)
        ROWS_MISSING.labels(self._pipeline.name).inc(watch.filling.rejected[UNFROZEN])
        self._tell_trouble(f"{self.name} {ranges}", reason)
