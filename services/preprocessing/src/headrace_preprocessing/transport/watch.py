"""What has come into a pipeline's clean topic since its last dataset, and who asks for the next one."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headrace.events.v1 import dataset_pb2
from headrace_data.spec import Pipeline
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.kafka.gaps import Gap
from headrace_runtime.record_topics import clean_topic
from headrace_runtime.records import Place, Record
from headrace_runtime.telemetry.traces import MAX_LINKS, links_to
from headrace_runtime.topics import DATASET_REQUESTED
from opentelemetry import trace

from headrace_preprocessing.core.filling import Filling
from headrace_preprocessing.core.lives import Lives
from headrace_preprocessing.transport.clean_messages import UNREADABLE, CleanMessages
from headrace_preprocessing.transport.converters import source_ranges, time_sources
from headrace_preprocessing.transport.late_labels import LateLabels
from headrace_preprocessing.transport.orders import ORDERS, Order

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 0.2
"""Least wait: while a dataset is due, or there is something to tell."""
IDLE_POLL_TIMEOUT_S = 5.0
"""Longest wait: then the lease is looked at."""
PROGRESS_EVERY_S = 0.5


UNFROZEN = "unfrozen"
"""Rule: clean rows were deleted from the clean topic, or could not be read, before a dataset took them."""


class Asked(NamedTuple):
    """A request that waits for its turn."""

    record: Record
    request: dataset_pb2.DatasetRequested

    @property
    def order(self) -> Order | None:
        """What it orders; None where it asks for a dataset of what waits."""
        return next((name for name in ORDERS if self.request.HasField(name)), None)


class Watch:
    """Reads clean batches and requests as they come, and counts what has not been cut yet."""

    def __init__(
        self,
        reader: LogReader,
        pipeline: Pipeline,
        messages: CleanMessages,
        starts: Mapping[Place, int | None],
        topic_id: Callable[[], str],
        late: LateLabels | None = None,
    ) -> None:
        """Count from these offsets on; None stands for the beginning. `topic_id` asks for the producers' topic's id.

        `late` takes labels that come later, where they do.
        """
        self._reader = reader
        self._late_labels = late
        self._pipeline = pipeline
        self._messages = messages
        self.filling = Filling()
        self.lives = Lives(topic_id)
        self._recent: deque[Record] = deque(maxlen=MAX_LINKS)
        self._asked: list[Record] = []
        self._told_s = 0.0
        self._told_counts = (0, 0, 0)
        self._wanted: dict[Place, int] = {}
        self._label_ends: dict[Place, int] = {}
        self._held: deque[Asked] = deque()
        """An order, and what was asked for after it: requests are answered in their order."""
        self.gaps = _gaps(reader, starts)
        """What retention took before it was counted."""
        reader.start_at({**starts, **{gap.place: gap.end for gap in self.gaps}})
        self.starts = {place: reader.position(place) for place in starts}
        """Where the next dataset begins."""
        self._seen = dict(self.starts)
        self._late = Filling()
        """What came of a topic that was known to be gone."""
        self.specs: set[str] = set()
        """Digests of the specs that what waits was cleaned by."""
        self.left_out: list[str] = []
        """Why rows that waited are part of no dataset; whoever has told of it clears it."""

    def look(self, until: Callable[[], bool]) -> None:
        """Take in what has come, or return after a while, or once `until` is true."""
        records = self._reader.poll(self._wait_s(), until)
        self._take_labels(records)
        for record in records:
            if record.topic == DATASET_REQUESTED.name:
                self._take_request(record)
            elif not self._is_label(record.place):
                self._recent.append(record)
                if not self._take_batch(record):
                    self.filling.rejected[UNREADABLE] += 1
            self._seen[record.place] = record.offset + 1
        self._tell_late()
        if self._late_labels is not None:
            self.filling.ready, self.filling.awaiting = self._late_labels.ready, self._late_labels.awaiting

    def _is_label(self, place: Place) -> bool:
        return self._late_labels is not None and place[0] == self._late_labels.topic

    def _take_labels(self, records: Sequence[Record]) -> None:
        labels = [record for record in records if self._is_label(record.place)]
        if self._late_labels is not None and labels:
            self._late_labels.take(labels)
            self.filling.last_s = time.monotonic()
            self.filling.oldest_ms = self.filling.oldest_ms or int(time.time() * 1_000)

    def _wait_s(self) -> float:
        """Return how long nothing can change but by what comes."""
        if self._has_news():
            return POLL_TIMEOUT_S
        now_ms = int(time.time() * 1_000)
        rest_s = self.filling.rest_s(self._pipeline.prepare.freeze, time.monotonic(), now_ms)
        return min(IDLE_POLL_TIMEOUT_S, max(POLL_TIMEOUT_S, rest_s))

    def _take_batch(self, record: Record) -> bool:
        """Count one message; return False, and count nothing of it, when it is no batch of clean records."""
        batch = self._messages.batch(record)
        if batch is None:
            return False
        self.specs.add(batch.spec_digest)
        sources, topic_id, now_s = source_ranges(batch), batch.topic_id, time.monotonic()
        # Ranges alone are believed where they go on from those before. Others may end what waits: look at the rows too.
        if not self.filling.goes_on(sources) and self._messages.rows(record) is None:
            return False
        if gone := self.lives.meet(topic_id):
            self._leave_out(gone)
        if topic_id in self.lives.gone:
            self._late.add(batch.rows, batch.rejected, sources, now_s, record.timestamp_ms)
            if record.place not in self.lives.firsts():
                self.starts[record.place] = record.offset + 1
            return True
        if self.filling.begins_anew(sources):
            # Of a topic without an id, or of one whose offsets were reset: what waits may be of either.
            self.lives.clear()
            self._leave_out(self.filling)
        if self._late_labels is not None and (rows := self._messages.rows(record)) is not None:
            self._late_labels.meet(rows)
        times = time_sources(batch)
        found = self.lives.add(topic_id, record, batch.rows, batch.rejected, sources, now_s)
        for filling in (found, self.filling):
            filling.time_sources.update(times)
            filling.masked.update(batch.masked)
            filling.unread.update(batch.unread)
            filling.writer_schemas.update(batch.writer_schemas)
        self.filling.add(batch.rows, batch.rejected, sources, now_s, record.timestamp_ms)
        return True

    def _leave_out(self, gone: Filling) -> None:
        """Go on without what waited: its offsets are of a topic that is gone, and mean other records now."""
        if gone.rows:
            self._tell_left_out(gone)
        topic = clean_topic(self._pipeline.own_name)
        seen = {place: offset for place, offset in self._seen.items() if place[0] == topic}
        self.starts |= seen | self.lives.firsts()
        requests, self.filling = self.filling.requests, self.lives.waiting()
        self.filling.requests = requests

    def _tell_late(self) -> None:
        if self._late.rows:
            self._tell_left_out(self._late)
        self._late = Filling()

    def _tell_left_out(self, gone: Filling) -> None:
        waited = ", ".join(f"{item.partition}:{item.start}-{item.end - 1}" for item in gone.ranges())
        self.left_out.append(
            f"topic {self._pipeline.stream.topic} begins anew: it was made again under its name, or its offsets were "
            f"reset. {gone.rows} rows of the one before ({waited}) are part of no dataset; the next one begins with "
            "the new topic. To have them in it, produce them again"
        )

    def _take_request(self, record: Record) -> None:
        try:
            request = decode(record, dataset_pb2.DatasetRequested)
        except Unprocessable as error:
            logger.warning("passed over %s: %s", record.coordinates, error)
            return
        if (request.pipeline, request.incarnation) == (self._pipeline.name, self._pipeline.incarnation):
            self._held.append(Asked(record, request))
            self._take_turns()

    def _take_turns(self) -> None:
        """Take in the requests for what waits, up to the next order."""
        while self._held and not self._held[0].order:
            asked = self._held.popleft()
            self._asked.append(asked.record)
            self.filling.requests.append(asked.request.request_id)
            # Partitions are read in no order of time: what was clean before the request may not have been seen yet.
            self._wanted = self._reader.ends(place for place in self.starts if place[0] != DATASET_REQUESTED.name)

    @property
    def turn(self) -> Asked | None:
        """The order whose turn it is: all that was asked for before it is answered."""
        return self._held[0] if self._held and not self.filling.requests else None

    def carried_out(self) -> None:
        """Go on behind the order whose turn it was."""
        record = self._held.popleft().record
        self.starts[record.place] = record.offset + 1
        self._take_turns()

    def has_what_was_asked_for(self) -> bool:
        """Tell whether everything that was clean when the latest request came is counted, and every label by now.

        By now means since a dataset became due: others may come all the time.
        """
        if not self._label_ends and self._late_labels is not None:
            self._label_ends = self._reader.ends(filter(self._is_label, self.starts))
        return self._reader.reached(self._wanted) and self._reader.reached(self._label_ends)

    def worth_telling(self) -> bool:
        """Tell whether there is news since the last time, which is some while ago."""
        now_s = time.monotonic()
        if not self._has_news() or now_s - self._told_s < PROGRESS_EVERY_S:
            return False
        self._told_s, self._told_counts = now_s, self._counts()
        return True

    def _has_news(self) -> bool:
        return self._counts() != self._told_counts

    def _counts(self) -> tuple[int, int, int]:
        return self.filling.usable, self.filling.awaiting, self.filling.rejected.total()

    def missing(self, found: int, ends: Mapping[Place, int]) -> tuple[str, str] | None:
        """Return where and why so few of the rows that were counted were found, and count those that were not."""
        if (missing := self.filling.rows - found) <= 0:
            return None
        self.filling.rejected[UNFROZEN] = missing
        ranges = ", ".join(
            f"{topic}:{number}:{self.starts[topic, number]}-{end - 1}" for (topic, number), end in ends.items()
        )
        return ranges, (
            f"{missing} of {self.filling.rows} clean rows are not in the dataset of {ranges}: they were deleted "
            "before they were frozen, because the topic's retention ended, or their messages cannot be read"
        )

    def lost(self, gap: Gap) -> str:
        """Return what a gap means for datasets."""
        what = "labels are joined to no row" if self._is_label(gap.place) else "clean rows are part of no dataset"
        return f"{what}: {gap.reason}"

    @property
    def has_grown(self) -> bool:
        """Whether the topic of labels has partitions that are not read: then one begins anew."""
        late = self._late_labels
        return late is not None and len(self._reader.partitions(late.topic)) > sum(map(self._is_label, self.starts))

    def links(self) -> list[trace.Link]:
        """Return links to the traces of the newest batches, and of the requests for what waits."""
        return links_to(record.headers for record in (*self._recent, *self._asked))

    def positions(self) -> dict[Place, int]:
        """Return how far everything counted so far reaches."""
        held = {asked.record.place: asked.record.offset for asked in reversed(self._held)}
        return {place: self._reader.position(place) for place in self.starts} | held

    def label_positions(self) -> dict[Place, int]:
        """Return how far the labels that were taken in reach."""
        return {place: self._reader.position(place) for place in self.starts if self._is_label(place)}

    def done(self, ends: Mapping[Place, int], *, frozen: bool) -> None:
        """Start counting anew behind a cut; after a failed one, keep the rows and wait for more."""
        self.starts |= ends
        self.specs.clear()
        self._asked.clear()
        self._label_ends.clear()
        if frozen:
            self.filling = Filling()
            self.lives.clear()
        else:
            self.filling.requests.clear()
            self.filling.failed_rows = self.filling.usable


def _gaps(reader: LogReader, starts: Mapping[Place, int | None]) -> list[Gap]:
    beginnings = reader.beginnings(starts)
    return [
        Gap(place, start, beginnings[place])
        for place, start in starts.items()
        if start is not None and start < beginnings[place] and place[0] != DATASET_REQUESTED.name
    ]
