"""Labels that come later than their rows, as a freezer reads them: from their topic into their cut."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from headrace_data.awaiting import NOTHING_WAITS, Awaiting, kept_labels, waiting_keys
from headrace_data.cleaning import keys_of
from headrace_data.decoders import Registries, schemas_of
from headrace_data.forgotten import Now, Suppression, nothing_forgotten
from headrace_data.formats import Schemas
from headrace_data.history import History
from headrace_data.key_digests import key_digests
from headrace_data.late_labels import UNLABELLED, Joined, LabelJoin
from headrace_data.manifest import OffsetRange
from headrace_data.parts import BlobStore
from headrace_data.private import Keys
from headrace_data.records import RecordChecker, Rejection, message_times
from headrace_data.spec import Pipeline
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.stream.dead_letters import DeadLetter
from prometheus_client import Counter as Metric

from headrace_preprocessing.core.filling import Filling
from headrace_preprocessing.core.pairs import Pairs
from headrace_preprocessing.transport.converters import SOURCE

logger = logging.getLogger(__name__)

MOST_ARRIVED = 100_000
"""How many labels are held in memory (about 30 MB) before they are kept in the store, also where no row comes; as many
as are kept there, if these are more."""
NO_LABELS = "no row has its label yet"
LABELS = Metric(
    "headrace_preprocessing_labels",
    "Labels that came later than their rows: read, rejected, of a key that had one (repeated), without a row in time "
    "(unmatched); and rows without a label in time (unlabelled).",
    ["pipeline", "outcome"],
)


def late_labels_of(pipeline: Pipeline, store: BlobStore, keys: Keys, registries: Registries) -> LateLabels | None:
    """Return the labels of a pipeline that come later; None where its rows have theirs."""
    if pipeline.stream.labels is None:
        return None
    return LateLabels(pipeline, store, keys, partial(schemas_of, pipeline.stream.of_labels, registries))


def settle(
    join: LabelJoin, history: History, filling: Filling, rows: int, left_out: Counter[str], masked: Counter[str]
) -> tuple[Joined, History, Filling]:
    """Return what a cut of so many rows leaves behind, the history with it, and what its segment tells of.

    `filling` is what came since the last cut, `left_out` and `masked` count what the cut itself left out and masked.
    Without rows there is no segment: the next one tells of it all.
    """
    before, joined = history.awaiting or NOTHING_WAITS, join.finish()
    sources = dict(filling.sources)
    for part in before.rows:
        here = OffsetRange(partition=part.partition, start=part.first_offset, end=part.last_offset + 1)
        known = sources.get(part.partition, here)
        start, end = min(known.start, here.start), max(known.end, here.end)
        sources[part.partition] = OffsetRange(partition=part.partition, start=start, end=end)
    told = replace(
        filling,
        sources=sources,
        rejected=filling.rejected + Counter(before.rejected) + Counter({UNLABELLED: joined.unlabelled}),
        masked=filling.masked + Counter(before.masked),
        unread=filling.unread + Counter(before.unread),
        time_sources=filling.time_sources | set(before.time_sources),
        writer_schemas=filling.writer_schemas | set(before.writer_schemas),
    )
    update: dict[str, object] = {}
    if joined.awaiting.rows:
        update["time_sources"] = tuple(sorted(told.time_sources))
    if joined.awaiting.rows or not rows:
        update["writer_schemas"] = tuple(sorted(told.writer_schemas))
    if not rows:
        update |= {"rejected": dict(told.rejected + left_out), "masked": dict(told.masked + masked)}
        update["unread"] = dict(told.unread)
    return joined, history.model_copy(update={"awaiting": joined.awaiting.model_copy(update=update)}), told


class LateLabels:
    """The labels of one pipeline since its last cut, and what waits for them."""

    def __init__(self, pipeline: Pipeline, store: BlobStore, keys: Keys, schemas: Callable[[], Schemas | None]) -> None:
        """`keys` has the key of personal fields; `schemas` are asked for when the first label comes."""
        self._pipeline, self._store, self._keys, self._schemas = pipeline, store, keys, schemas
        self._stream = pipeline.stream.of_labels
        self.topic = self._stream.topic
        self.forgotten: Now = nothing_forgotten
        """Tells which keys are forgotten: letters tell nothing of what labels of these say."""
        self._checker: RecordChecker | None = None
        self._arrived: list[pa.RecordBatch] = []
        self._letters: list[DeadLetter] = []
        self._pairs = Pairs()
        self._owned = self._count_arrived = self._count_kept = 0

    @property
    def are_many(self) -> bool:
        """Whether so many labels came since the last cut that they are better kept in the store.

        Each time that they are, all that are kept are written anew: so no sooner than there are as many new ones.
        """
        return self._count_arrived >= max(MOST_ARRIVED, self._count_kept)

    @property
    def ready(self) -> int:
        """How many rows have their labels by now."""
        return self._pairs.ready + self._owned

    @property
    def awaiting(self) -> int:
        """How many rows have none."""
        return self._pairs.waiting

    @property
    def letters(self) -> list[Outgoing]:
        """The dead letters of labels that are none."""
        # Every pipeline's dead-letter topic has a first partition; those of labels are partitions of another topic.
        return [letter.outgoing(self._pipeline.own_name, 0) for letter in self._letters]

    def begin(self, awaiting: Awaiting | None) -> None:
        """Begin with what waits as of the last cut."""
        kept = awaiting or NOTHING_WAITS
        labels = kept_labels(kept, self._pipeline, self._store).combine_chunks()
        keys = [key_digests(chunk) for chunk in labels.column(0).chunks]
        self._begin(Pairs(waiting_keys(kept, self._pipeline, self._store), keys), len(labels))

    def _begin(self, pairs: Pairs, kept: int) -> None:
        self._pairs, self._owned = pairs, 0
        self._settled(kept)

    def _settled(self, kept: int) -> None:
        self._arrived, self._letters = [], []
        self._count_arrived, self._count_kept = 0, kept

    def take(self, records: Sequence[Record]) -> None:
        """Take in messages of the labels' topic; one without a value says nothing."""
        records = [record for record in records if record.value is not None]
        if not records:
            return
        checker = self._checker = self._checker or RecordChecker(self._stream, self._keys, self._schemas())
        checker.forgotten = self.forgotten
        checked = checker.check(
            [record.value for record in records],
            [record.partition for record in records],
            [record.offset for record in records],
            times=message_times([record.timestamp_ms for record in records]),
            now_s=time.time(),
            messages=records,
        )
        if len(checked.batch):
            self._arrived.append(checked.batch)
            self._pairs.add_labels(key_digests(checked.batch.column(0)))
        self._count_arrived += len(records)
        self._letters += [self._letter(checker, records[each.position], each) for each in checked.rejected]
        self._count({"read": len(checked.batch), "rejected": len(checked.rejected)})

    def meet(self, rows: pa.RecordBatch) -> None:
        """Take note of clean rows; how many of them are ready is known by their keys."""
        without = np.flatnonzero(rows.column(self._pipeline.stream.label.name).is_null().to_numpy(zero_copy_only=False))
        self._owned += len(rows) - len(without)
        self._pairs.add_rows(keys_of(rows, self._pipeline)[without])

    def join(self, awaiting: Awaiting | None, topic_id: str, suppression: Suppression) -> LabelJoin:
        """Return the join of a cut; `topic_id` is the broker's id of the topic that its rows are of.

        Nothing waits on of keys that are forgotten, as `suppression` tells them.
        """
        now_us, kept = round(time.time() * 1_000_000), awaiting or NOTHING_WAITS
        return LabelJoin(self._pipeline, self._store, kept, self._arrived, now_us, topic_id, suppression)

    def done(self, joined: Joined) -> None:
        """Begin anew behind a cut that is committed."""
        self._count({name: getattr(joined, name) for name in ("unlabelled", "repeated", "unmatched")})
        self._begin(Pairs(joined.row_keys, [joined.label_keys]), joined.awaiting.label_count)

    def kept(self, joined: Joined) -> None:
        """Go on behind labels that are kept alone; those that nobody waits for any more are counted and gone."""
        self._count({name: getattr(joined, name) for name in ("repeated", "unmatched")})
        self._pairs.keep_labels(joined.label_keys)
        self._settled(joined.awaiting.label_count)

    def _count(self, counts: dict[str, int]) -> None:
        for outcome, count in Counter(counts).items():
            LABELS.labels(self._pipeline.name, outcome).inc(count)

    def _letter(self, checker: RecordChecker, record: Record, rejection: Rejection) -> DeadLetter:
        withheld = checker.withholds or rejection.forgotten
        value = checker.letter(record.value, record) if checker.withholds else record.value
        logger.warning("%s is no label of pipeline %s: %s", record.coordinates, self._pipeline.name, rejection.reason)
        return DeadLetter(
            stage=SOURCE,
            rule=rejection.rule,
            field=rejection.field,
            reason=rejection.reason,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=None if withheld else record.key,
            value=None if rejection.forgotten else value,
            headers=() if rejection.forgotten else record.headers,
            timestamp_ms=max(record.timestamp_ms, 0),
            withheld=withheld,
            value_bytes=len(record.value or b"") if withheld else 0,
        )
