"""Windows: which rows of a pipeline's segments make a dataset, and the dataset that they make.

A window is counted back from the watermark of the cut, so the same segments give the same dataset at any time. It takes
whole segments, but for those that its bound lies in: these are read to find what is taken of them. Everything else is
known from sketches, unless the schema, the preparation or the split rule changed since they were made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import pyarrow as pa

from headrace_data.canonical import canonical, sha256_digest
from headrace_data.class_rows import ClassRows, rarest
from headrace_data.errors import DatasetUnusable
from headrace_data.fitting import fit
from headrace_data.forgotten import FORGOTTEN
from headrace_data.history import Entry, History, keep, kept_sketch, preparation_of, prepared_under, sketched
from headrace_data.leaks import Leaks
from headrace_data.leaving_out import LeavingOut
from headrace_data.manifest import (
    Bound,
    Manifest,
    OffsetRange,
    Provenance,
    Reading,
    SegmentManifest,
    Slice,
    SplitParts,
)
from headrace_data.outliers import Outlying
from headrace_data.parts import BlobStore, default_chunk_rows
from headrace_data.recall import Recall, Taken
from headrace_data.segments import Segment
from headrace_data.sketches import MAX_CLASSES, Sketch
from headrace_data.slices import bound_of_newest, reaches, reading_of, rows_of, splits_of
from headrace_data.spec import Last, Newest, Pipeline
from headrace_data.split import SPLITS
from headrace_data.tasks import TASKS
from headrace_data.transforms import FittedTransforms

_FORMAT: Final = "headrace.window.v1"


class Remarks(NamedTuple):
    """What there is to say of a dataset, for which it may be better not to train on it."""

    rarest: ClassRows | None = None
    """The class with the fewest rows in a split; None where there are no classes, or they were not counted."""
    leaks: Leaks | None = None
    """The training rows that validation or test has, too; None where nobody asked."""
    outlying: tuple[Outlying, ...] = ()
    """The bounds beyond which training rows were left out, by field."""


NO_REMARKS: Final = Remarks()


@dataclass
class Windows:
    """Makes the datasets of one pipeline."""

    pipeline: Pipeline
    store: BlobStore
    keep_alive: Callable[[], None] = lambda: None
    """Called for each part that is read: many take minutes."""
    fresh: dict[str, Sketch] = field(default_factory=dict)
    """Sketches of all rows of segments, by segment: what is kept of them may be a sample."""
    recall: Recall = field(default_factory=Recall)
    """What was read for the dataset before."""
    renewed: list[Entry] = field(default_factory=list)
    """Entries whose sketches were made anew."""
    remarks: Remarks = NO_REMARKS
    """What there is to say of the newest dataset."""

    def dataset(self, history: History) -> tuple[Manifest, History]:
        """Return the dataset of the pipeline's window over these segments, and the history with what was renewed.

        Segments that are held are passed over. Raises DatasetUnusable when the window has no rows, a split has none, or
        they cannot be learned from, and DatasetInvalid when segments are not what the history says.
        """
        self.renewed.clear()
        self.recall.begin()
        taken, whole = self._merged(history.counting)
        leaving = LeavingOut(self.pipeline, self._reading(), self.store, self.keep_alive)
        taken, left_out = leaving.without(taken, whole)
        whole = self._anew(taken) if left_out else whole
        self._require_usable(whole)
        self.remarks = Remarks(rarest(whole), leaving.leaks(taken), leaving.outlying)
        manifest = self._manifest(taken, whole, left_out)
        return manifest, self.known(history).model_copy(update={"prepared": prepared_under(self.pipeline)})

    def known(self, history: History) -> History:
        """Return a history with the sketches that were made anew, also where no dataset came of them."""
        return history.renewed(self.renewed)

    def sketched(self, history: History) -> History:
        """Return a history whose segments all have a sketch. Raises DatasetInvalid as `dataset` does."""
        self.renewed.clear()
        for entry in history.entries:
            if entry.sketch is None:
                self._whole(entry)
        return self.known(history)

    def _merged(self, history: History) -> tuple[list[Taken], Sketch]:
        """Return what the window takes, oldest segment first, and what is known of all of it."""
        is_all = self.pipeline.prepare.window == "all"
        taken, whole = self.recall.sum_of(history.entries if is_all else (), self.pipeline)
        sketch = Sketch(self.pipeline)
        for each, sketch in self._taken(history, len(taken)):
            whole.merge(sketch)
            taken.append(each)
        if is_all:
            self.recall.keep_sum(self.known(history).entries, taken, whole)
        if len(taken) == 1 and taken[0].rows.since is None and sketch.is_sampled:
            # Of one segment, fits are as exact as all of its rows make them, whenever they are made.
            (only,) = taken
            whole = self.fresh.get(only.manifest.segment_id) or self.sketch_of(only.rows)
        return taken[::-1] if isinstance(self.pipeline.prepare.window, Newest) else taken, whole

    def _anew(self, taken: Sequence[Taken]) -> Sketch:
        """Return what is known of what is taken, having read it."""
        whole = Sketch(self.pipeline)
        for each in taken:
            whole.merge(self.sketch_of(each.rows))
        return whole

    def _taken(self, history: History, known: int) -> Iterator[tuple[Taken, Sketch]]:
        """Return what the window takes: of a number of rows the newest segment first, else the oldest.

        Of the first segments so many are known.
        """
        window, entries = self.pipeline.prepare.window, history.entries
        if isinstance(window, Newest):
            return self._newest(entries, window.rows)
        if isinstance(window, Last):
            return self._since(entries, self._watermark(history) - round(window.last * 1_000_000))
        if window == "new" and not history.cuts:
            raise DatasetUnusable(
                "window new takes the rows of the newest cut, and nothing was cut yet: all takes history"
            )
        return (self._whole(entry) for entry in (history.cuts[-1:] if window == "new" else entries[known:]))

    def _watermark(self, history: History) -> int:
        clock = self.pipeline.stream.time or ""
        watermark = history.watermark_of(clock)
        if watermark is None:
            told = f", by the key {clock!r}," if clock else ""
            raise DatasetUnusable(f"expected rows with an event time{told} to count a window back from, got none")
        return watermark

    def _since(self, entries: Sequence[Entry], time: int) -> Iterator[tuple[Taken, Sketch]]:
        for entry in entries:
            if entry.last_time is None or entry.last_time < time:
                continue
            if entry.first_time is not None and entry.first_time >= time:
                yield self._whole(entry)
            else:
                yield self._part(entry, Bound(time=time))

    def _newest(self, entries: Sequence[Entry], count: int) -> Iterator[tuple[Taken, Sketch]]:
        """Yield what makes the newest so many rows, newest segment first."""
        for entry in reversed(entries):
            taken, sketch = self._whole(entry)
            if sketch.rows > count:
                rows = rows_of(taken.rows, self.pipeline.stream.fields, self._reading(), self.store)
                taken, sketch = self._part(entry, bound_of_newest(self._beating(rows), count))
            yield taken, sketch
            count -= sketch.rows
            if count <= 0:
                return

    def _whole(self, entry: Entry) -> tuple[Taken, Sketch]:
        manifest = self._segment(entry)
        rows = self._slice(manifest, None)
        sketch = self._kept_sketch(entry)
        if sketch is None:
            renewed = sketched(entry, self.sketch_of(rows), self.pipeline, self.store)
            self.renewed.append(renewed)
            sketch = kept_sketch(renewed, self.pipeline, self.store, spread=False) or self.sketch_of(rows)
        return Taken(manifest, rows), sketch

    def _kept_sketch(self, entry: Entry) -> Sketch | None:
        known = self.recall.sketch(entry.sketch) if entry.sketched == preparation_of(self.pipeline) else None
        found = known or kept_sketch(entry, self.pipeline, self.store, spread=False)
        return self.recall.keep(entry.sketch, found) if found is not None and entry.sketch is not None else None

    def _part(self, entry: Entry, since: Bound) -> tuple[Taken, Sketch]:
        manifest = self._segment(entry)
        rows = self._slice(manifest, since)
        return Taken(manifest, rows), self.sketch_of(rows)

    def _segment(self, entry: Entry) -> SegmentManifest:
        self.keep_alive()
        known = self.recall.manifest(entry.manifest)
        manifest = known or SegmentManifest.from_json(self.store.get(entry.manifest))
        return self.recall.keep(entry.manifest, manifest)

    def _slice(self, segment: SegmentManifest, since: Bound | None) -> Slice:
        return Slice(
            segment_id=segment.segment_id,
            parts=tuple(part for part in segment.parts if since is None or reaches(part, since)),
            since=since,
            strict=(segment.schema_digest, segment.prepare_digest)
            != (self.pipeline.schema_digest, self.pipeline.prepare_digest),
        )

    def sketch_of(self, rows: Slice) -> Sketch:
        """Read rows, and return what is known of them."""
        sketch, reading = Sketch(self.pipeline), self._reading()
        size = default_chunk_rows(self.pipeline.stream.fields)
        batches = self._beating(rows_of(rows, self.pipeline.stream.fields, reading, self.store))
        for part, batch in zip(rows.parts, batches, strict=True):
            for start in range(0, len(batch), size):
                chunk = batch.slice(start, size)
                sketch.add(chunk, part.partition, splits_of(chunk, reading))
        return sketch

    def _beating(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.keep_alive()
            yield batch

    def _reading(self) -> Reading:
        return reading_of(self.pipeline)

    def _require_usable(self, sketch: Sketch) -> None:
        for name, side in sketch.sides.items():
            if side.rows == 0:
                raise DatasetUnusable(f"expected rows in split {name}, got none among {sketch.rows}")
        labels, label = sketch.labels, self.pipeline.stream.label.name
        if sketch.places is not None:
            moments = sketch.places.moments()
            if not (moments.low < moments.high).any():
                raise DatasetUnusable(
                    f"expected at least two distinct values at some place of label {label!r}, got one at each of "
                    f"{len(moments.low)}"
                )
        elif (count := len(labels.counts)) < 2:
            raise DatasetUnusable(f"expected at least two distinct values of label {label!r}, got {count}")
        if labels.beyond and TASKS[self.pipeline.task].counts_labels:
            raise DatasetUnusable(
                f"expected at most {MAX_CLASSES} distinct values of label {label!r}, got more; the next one came "
                f"{labels.beyond}. Numbers to come close to are learned with train.task: regression; other labels "
                "need fewer values, or a schema with another label under another name"
            )

    def _manifest(self, taken: Sequence[Taken], sketch: Sketch, left_out: Mapping[str, int]) -> Manifest:
        pipeline, label = self.pipeline, self.pipeline.stream.label
        are_classes = not TASKS[pipeline.task].answers_texts and not label.type.startswith("float")
        countable = are_classes and not label.shape and not sketch.labels.beyond
        return Manifest(
            dataset_id=self._id(taken),
            pipeline=pipeline.name,
            spec_digest=pipeline.digest,
            schema_digest=pipeline.schema_digest,
            prepare_digest=pipeline.prepare_digest,
            split_digest=pipeline.split_digest,
            fields=pipeline.stream.fields,
            splits={name: SplitParts(rows=sketch.sides[name].rows) for name in SPLITS},
            slices=tuple(each.rows for each in taken),
            reading=self._reading(),
            classes=tuple(sorted(sketch.labels.counts)) if countable else (),
            transforms=fit(sketch.sides["train"], pipeline),
            provenance=_joined([each.manifest.provenance for each in taken], Counter(left_out) + _forgotten(taken)),
        )

    def _id(self, taken: Sequence[Taken]) -> str:
        """Return the id of a dataset: its segment's when it is one, as it was cut; else a digest of what it takes."""
        pipeline, only = self.pipeline, taken[0]
        cut_under = (only.manifest.schema_digest, only.manifest.prepare_digest, only.manifest.split_digest)
        read_under = (pipeline.schema_digest, pipeline.prepare_digest, pipeline.split_digest)
        erased = [[place, number, bits] for place, each in enumerate(taken) for number, bits in _erased(each.rows)]
        if len(taken) == 1 and only.rows.since is None and cut_under == read_under and not erased:
            return only.manifest.segment_id
        segments = [[each.rows.segment_id, each.rows.since and each.rows.since.model_dump()] for each in taken]
        return sha256_digest(
            canonical(
                {
                    "format": _FORMAT,
                    "segments": segments,
                    "schema": read_under[0],
                    "prepare": read_under[1],
                    "split": read_under[2],
                    # Without these rows it is another dataset; those of before keep their ids.
                    **({"erased": erased} if erased else {}),
                }
            )
        )


def fitted_anew(
    dataset: Manifest, pipeline: Pipeline, store: BlobStore, keep_alive: Callable[[], None]
) -> FittedTransforms:
    """Return what is fitted to a dataset's rows as they are now; the pipeline is as when it was made.

    Reads all of them. Raises DatasetUnusable where nothing can be fitted to them any more.
    """
    windows, whole = Windows(pipeline, store, keep_alive), Sketch(pipeline)
    for taken in dataset.slices:
        whole.merge(windows.sketch_of(taken))
    return fit(whole.sides["train"], pipeline)


def _erased(rows: Slice) -> Iterator[tuple[int, str]]:
    """Yield which rows of a slice's parts were erased, as bits, by the part's place."""
    for number, part in enumerate(rows.parts):
        if FORGOTTEN in part.left_out:
            yield number, part.left_out[FORGOTTEN]


def _forgotten(taken: Sequence[Taken]) -> Counter[str]:
    """Return how many rows of the segments that rows are taken of were erased."""
    return Counter({FORGOTTEN: sum(part.rows - part.held for each in taken for part in each.manifest.parts)})


def only_dataset(segment: Segment, pipeline: Pipeline, store: BlobStore) -> Manifest:
    """Return the dataset of a pipeline that has one segment. Raises DatasetUnusable."""
    entry = keep(segment, pipeline, store)
    windows = Windows(pipeline, store, fresh={entry.segment_id: segment.sketch})
    return windows.dataset(History(pipeline=pipeline.name).and_cut(entry))[0]


def _joined(provenances: Sequence[Provenance], left_out: Mapping[str, int]) -> Provenance:
    """Return the provenance of several segments' rows as one: cluster and topic are those of the newest.

    `left_out` counts rows of theirs that are not in the dataset, by rule.
    """
    rejected, masked, unread = Counter(left_out), Counter[str](), Counter[str]()
    for each in provenances:
        rejected.update(each.rejected)
        masked.update(each.masked)
        unread.update(each.unread)
    return provenances[-1].model_copy(
        update={
            "sources": _ranges([span for each in provenances for span in each.sources]),
            "clean_ranges": _ranges([span for each in provenances for span in each.clean_ranges]),
            "time_sources": tuple(sorted({source for each in provenances for source in each.time_sources})),
            "writer_schemas": tuple(sorted({schema for each in provenances for schema in each.writer_schemas})),
            "rejected": dict(rejected),
            "masked": dict(masked),
            "unread": dict(unread),
            "backfilled": tuple(source for each in provenances for source in each.backfilled),
        }
    )


def _ranges(spans: Sequence[OffsetRange]) -> tuple[OffsetRange, ...]:
    """Return ranges with those joined that touch, by partition."""
    joined: list[OffsetRange] = []
    for span in sorted(spans, key=lambda each: (each.partition, each.start, each.end)):
        last = joined[-1] if joined else None
        if last is not None and last.partition == span.partition and span.start <= last.end:
            joined[-1] = last.model_copy(update={"end": max(last.end, span.end)})
        else:
            joined.append(span)
    return tuple(joined)
