"""Joins labels that come later to their rows, cut by cut.

A row has a label when there is one of its key whose time is at most `within` from the row's, before or behind it,
whichever of the two is read first. Of several the last one in time is taken, of those of one time the last one read.
Rows that have one are part of the cut; the others wait. A row is given up when the latest time of all that was read is
more than `within` behind it: its label was not there then, though the labels' topic was read to its end.
A label is kept as long, and in any case for `within` after it was read, as rows may come late: many are read at once
when a pipeline begins with history.

What waits is written anew with each cut. So what a cut takes depends on the rows and labels that are read, and on
nothing else; when something is read again, it comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.awaiting import (
    READ,
    USED,
    Awaiting,
    WaitingWriter,
    keep_labels,
    kept_labels,
    label_schema,
    waiting_rows,
)
from headrace_data.batches import NO_TIME, PARTITION, TIME, times_of
from headrace_data.cleaning import keys_of
from headrace_data.forgotten import NOTHING_FORGOTTEN, Suppression
from headrace_data.key_digests import Digests, key_digests
from headrace_data.parts import BlobStore
from headrace_data.spec import Pipeline

UNLABELLED: Final = "unlabelled"
"""Rule: a row had no label within the time that `stream.labels` waits for it."""
_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Joined:
    """What a cut leaves behind."""

    awaiting: Awaiting
    """What waits from now on."""
    unlabelled: int
    """Rows that were given up."""
    repeated: int
    """Labels of keys that had one before."""
    unmatched: int
    """Labels that were given up without a row."""
    row_keys: tuple[Digests, ...]
    """Keys of the rows that wait."""
    label_keys: Digests
    """Keys of the labels that are kept."""


class LabelTable:
    """Labels by key and time."""

    def __init__(self, table: pa.Table, key: str, label: str, within_us: int) -> None:
        """`table` has the columns of `label_schema`, those that were read later behind the others."""
        self.table = table.combine_chunks()
        self.digests = key_digests(_column(self.table, key))
        self.times: _Numbers = _column(self.table, TIME).cast(pa.int64()).to_numpy()
        self.used: npt.NDArray[np.bool_] = np.array(_column(self.table, USED).to_numpy(zero_copy_only=False), np.bool_)
        self.values = _column(self.table, label)
        self._within = within_us
        # A stable sort: of equal ones the last one read comes last.
        self._order = np.lexsort((self.times, self.digests[:, 1], self.digests[:, 0]))
        self._sorted, self._clock = self.digests[self._order], self.times[self._order]

    def find(self, digests: Digests, times: _Numbers) -> _Numbers:
        """Return the place of the label of each row in the table, -1 where there is none."""
        at: _Numbers = np.searchsorted(self._sorted[:, 0], digests[:, 0], "right").astype(np.int64) - 1
        found, open_ = np.full(len(at), -1, np.int64), np.arange(len(at))
        while open_.size:
            at_open, of = at[open_], digests[open_]
            there = at_open >= 0
            there[there] = self._sorted[at_open[there], 0] == of[there, 0]
            open_, at_open, of = open_[there], at_open[there], of[there]
            clock = self._clock[at_open]
            is_own = self._sorted[at_open, 1] == of[:, 1]
            soon, late = clock <= times[open_] + self._within, clock >= times[open_] - self._within
            hit = is_own & soon & late
            found[open_[hit]] = self._order[at_open[hit]]
            # Labels of one key lie in the order of their times: those before the first that is too old are older.
            open_ = open_[~hit & ~(is_own & soon)]
            at[open_] -= 1
        return found

    def kept(self, watermark: int, now_us: int) -> npt.NDArray[np.bool_]:
        """Return which labels may have rows to come."""
        read: _Numbers = _column(self.table, READ).to_numpy()
        kept: npt.NDArray[np.bool_] = (self.times + self._within >= watermark) | (read + self._within >= now_us)
        return kept


class LabelJoin:
    """The join of one cut."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: BlobStore,
        awaiting: Awaiting,
        arrived: Sequence[pa.RecordBatch],
        now_us: int,
        topic_id: str = "",
        suppression: Suppression = NOTHING_FORGOTTEN,
    ) -> None:
        """`arrived` are the labels that were read since the last cut, rows of `Stream.of_labels`.

        `now_us` is the time of day in microseconds since the epoch, `topic_id` the broker's id of the producers' topic:
        rows of another one that was there before it have no place beside its rows, and are given up. Neither rows nor
        labels of keys that are forgotten, as `suppression` tells them, wait on.
        """
        stream = pipeline.stream
        if stream.labels is None:
            raise ValueError(f"pipeline {pipeline.name!r}: expected labels that come later, got none")
        self._pipeline, self._store, self._before, self._now_us = pipeline, store, awaiting, now_us
        self._within = round(stream.labels.within * 1_000_000)
        kept = kept_labels(awaiting, pipeline, store)
        key, label = (field.name for field in stream.of_labels.fields)
        self._suppression = suppression
        arrived = [each.filter(pa.array(~suppression.among(each.column(key)))) for each in arrived]
        whole = pa.concat_tables([kept, _read_at(arrived, now_us, label_schema(pipeline))])
        self._labels = LabelTable(whole, key, label, self._within)
        self._watermark = max(awaiting.watermark or NO_TIME, self._labels.times.max(initial=NO_TIME))
        new = len(whole) - len(kept)
        self._repeated = new - (_different(self._labels.digests) - _different(self._labels.digests[: len(kept)]))
        self._topic_id = topic_id or awaiting.topic_id
        self._is_anew = bool(topic_id and awaiting.topic_id and topic_id != awaiting.topic_id)
        self.fresh = 0
        """Rows that were read beside those that waited."""
        self._begin()

    def _begin(self) -> None:
        self.fresh = self._unlabelled = 0
        self._newest = self._watermark
        self._writer = WaitingWriter(self._pipeline, self._store)
        self._keys: list[Digests] = []

    def rows(self, read: Callable[[], Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        """Yield the rows that have their labels by now: of those that waited, and of those that `read` returns.

        May be called again, when `read` returns the same: then what it comes to is counted anew.
        """
        self._begin()
        for batch in waiting_rows(self._before, self._pipeline, self._store):
            if self._is_anew:
                pushed = np.flatnonzero(batch.column(PARTITION).to_numpy() < 0)
                self._unlabelled += len(batch) - len(pushed)
                batch = batch.take(pa.array(pushed))
            yield self._with_labels(batch)
        for batch in read():
            self.fresh += len(batch)
            yield self._with_labels(batch)

    def finish(self) -> Joined:
        """Keep what waits, and return it. To be called once, when the last rows were taken."""
        return self._kept(Awaiting(rows=self._writer.finish()))

    def labels_alone(self, *, uncut: bool = False) -> Joined:
        """Keep the labels, and return what waits with them: the rows of before. To be called in place of the others.

        `uncut` tells that rows came since the last cut: any label may be theirs, so that none is given up.
        """
        return self._kept(self._before, uncut=uncut)

    def _kept(self, before: Awaiting, *, uncut: bool = False) -> Joined:
        labels, newest = self._labels, self._newest
        kept = np.ones(len(labels.used), np.bool_) if uncut else labels.kept(newest, self._now_us)
        table = labels.table.set_column(labels.table.column_names.index(USED), USED, pa.array(labels.used))
        update = {
            "labels": keep_labels(table.filter(pa.array(kept)), self._store),
            "label_count": int(kept.sum()),
            "watermark": None if newest == NO_TIME else int(newest),
            "topic_id": self._topic_id,
        }
        unmatched = int((~kept & ~labels.used).sum())
        keys = tuple(self._keys), labels.digests[kept]
        return Joined(before.model_copy(update=update), self._unlabelled, self._repeated, unmatched, *keys)

    def _with_labels(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a batch that have a label; count and keep the others."""
        field = self._pipeline.stream.label
        own, digests, times = batch.column(field.name), keys_of(batch, self._pipeline), times_of(batch)
        timeless = times == NO_TIME
        places = self._labels.find(digests, np.where(timeless, max(self._watermark, 0), times))
        has_own = own.is_valid().to_numpy(zero_copy_only=False)
        places[has_own] = -1
        self._labels.used[places[places >= 0]] = True
        taken = has_own | (places >= 0)
        # Nobody knows when a row without a time is too old: it is given up unless its label came before it.
        late = ~taken & (timeless | (times + self._within < self._watermark))
        late |= ~taken & self._suppression.rows(batch, self._pipeline)
        self._unlabelled += int(late.sum())
        self._newest = max(self._newest, times.max(initial=NO_TIME))
        if (waits := ~taken & ~late).any():
            self._writer.add(batch.filter(pa.array(waits)))
            self._keys.append(digests[waits])
        return self._filled(batch, np.flatnonzero(taken), places[taken], has_own[taken])

    def _filled(
        self, batch: pa.RecordBatch, rows: npt.NDArray[np.intp], places: _Numbers, has_own: npt.NDArray[np.bool_]
    ) -> pa.RecordBatch:
        """Return rows of a batch, each with its own label or with that in a place of the table."""
        name = self._pipeline.stream.label.name
        some, at = batch.take(pa.array(rows)), batch.schema.names.index(self._pipeline.stream.label.name)
        own = some.column(name)
        found = self._labels.values.take(pa.array(places[~has_own])).cast(own.type)
        both = pa.concat_arrays([own, found])
        which = np.arange(len(rows))
        which[~has_own] = len(rows) + np.arange(len(found))
        columns = list(some.columns)
        columns[at] = both.take(pa.array(which))
        return pa.RecordBatch.from_arrays(columns, schema=some.schema)


def _read_at(arrived: Sequence[pa.RecordBatch], now_us: int, schema: pa.Schema) -> pa.Table:
    """Return labels that were just read, as they are kept; of now, where nobody knows when they were known."""
    tables = [schema.empty_table()]
    for batch in arrived:
        times = np.where((times := times_of(batch)) == NO_TIME, now_us, times)
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns |= {TIME: pa.array(times).cast(schema.field(TIME).type)}
        columns |= {READ: pa.array(np.full(len(batch), now_us)), USED: pa.array(np.zeros(len(batch), np.bool_))}
        tables.append(pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema))
    return pa.concat_tables(tables)


def _column(table: pa.Table, name: str) -> pa.Array:
    chunked = table.column(name)
    return (
        chunked.chunk(0) if chunked.num_chunks == 1 else pa.concat_arrays(chunked.chunks or [chunked.combine_chunks()])
    )


def _different(digests: Digests) -> int:
    return len(np.unique(digests, axis=0)) if len(digests) else 0
