"""The history of a pipeline: the segments that its cuts wrote. Canonical JSON in the object store.

Each cut writes the history anew, as one document that refers to the segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pydantic

from headrace_data.awaiting import Awaiting
from headrace_data.canonical import canonical, sha256_digest
from headrace_data.errors import DatasetInvalid
from headrace_data.forgotten import Forgotten
from headrace_data.manifest import Count, Digest, Document, Ref, SegmentManifest, Source, is_none, parsed
from headrace_data.parts import Blob, BlobStore
from headrace_data.segments import Segment
from headrace_data.sketch_files import from_bytes, to_bytes
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline

NEW: Final = sha256_digest(canonical("new"))
"""The digest of the window that takes the newest cut."""
RETRAIN: Final = sha256_digest(canonical("retrain"))
"""What a history was prepared under whose dataset is to be made again."""


class Entry(Document):
    """One segment."""

    segment_id: Digest
    """The segment."""
    manifest: Ref
    """Its manifest."""
    rows: Count
    """How many rows it holds."""
    first_time: int | None = pydantic.Field(default=None, exclude_if=is_none)
    """Earliest event time of its rows, in microseconds since the epoch; None when one has none."""
    last_time: int | None = pydantic.Field(default=None, exclude_if=is_none)
    """Latest event time of its rows."""
    clock: str = pydantic.Field(default="", exclude_if=lambda value: not value)
    """What its event times are: `stream.time` when it was made; empty for those of Kafka."""
    sketch: Ref | None = pydantic.Field(default=None, exclude_if=is_none)
    """Its sketch; None when there is none yet."""
    sketched: str = ""
    """What the sketch was made under, as `preparation_of` has it."""
    source: Source | None = pydantic.Field(default=None, exclude_if=is_none)
    """What a backfill took its rows from; None of a cut."""


class History(Document):
    """The segments of a pipeline, oldest first."""

    pipeline: str
    """Name of the pipeline."""
    entries: tuple[Entry, ...] = ()
    """The segments."""
    prepared: str = ""
    """What the newest dataset was prepared under, as `dataset_of` has it; empty when there is none."""
    forgotten: tuple[Forgotten, ...] = pydantic.Field(default=(), exclude_if=lambda value: not value)
    """The keys whose records come into no segment any more."""
    awaiting: Awaiting | None = pydantic.Field(default=None, exclude_if=is_none)
    """What waits for labels that come later; None where rows have theirs."""

    @property
    def watermark(self) -> int | None:
        """The latest event time of all rows, in microseconds since the epoch; None when none has a time."""
        return max((entry.last_time for entry in self.entries if entry.last_time is not None), default=None)

    def watermark_of(self, clock: str) -> int | None:
        """Return the latest event time of rows whose times are of one kind: see `Entry.clock`."""
        return self.model_copy(update={"entries": [each for each in self.entries if each.clock == clock]}).watermark

    @property
    def rows(self) -> int:
        """Rows of all segments."""
        return sum(entry.rows for entry in self.entries)

    def and_cut(self, entry: Entry) -> History:
        """Return the history with one more segment."""
        return self.model_copy(update={"entries": (*self.entries, entry)})

    def before(self, place: int) -> History:
        """Return the history as far as a place, which it is without."""
        return self.model_copy(update={"entries": self.entries[:place]})

    def with_at(self, place: int, entry: Entry) -> History:
        """Return the history with another segment in the place of one."""
        return self.model_copy(update={"entries": (*self.entries[:place], entry, *self.entries[place + 1 :])})

    def and_backfilled(self, entry: Entry) -> History:
        """Return the history with one more segment of a backfill: behind those of backfills, before all cuts."""
        place = sum(each.source is not None for each in self.entries)
        return self.model_copy(update={"entries": (*self.entries[:place], entry, *self.entries[place:])})

    @property
    def cuts(self) -> tuple[Entry, ...]:
        """The segments that cuts wrote."""
        return tuple(entry for entry in self.entries if entry.source is None)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What backfills took rows from."""
        return tuple(entry.source for entry in self.entries if entry.source is not None)

    def renewed(self, entries: Sequence[Entry]) -> History:
        """Return the history with these entries in place of those of the same manifests."""
        new = {entry.manifest.digest: entry for entry in entries}
        kept = tuple(new.get(entry.manifest.digest, entry) for entry in self.entries)
        return self.model_copy(update={"entries": kept})

    def to_json(self) -> bytes:
        """Return the history as canonical JSON."""
        return canonical(self.model_dump(mode="json"))

    @staticmethod
    def from_json(data: bytes) -> History:
        """Return the history of canonical JSON. Raises ManifestInvalid."""
        return parsed(History, data, "a pipeline's history")


def preparation_of(pipeline: Pipeline) -> str:
    """Return the digest of what decides a row's side, and how it is sketched: schema, preparation and split rule."""
    return sha256_digest(canonical([pipeline.schema_digest, pipeline.prepare_digest, pipeline.split_digest]))


def prepared_under(pipeline: Pipeline) -> str:
    """Return the digest of what decides which rows of which segments a dataset takes, and how they are read."""
    return prepared_by((pipeline.schema_digest, pipeline.prepare_digest, pipeline.split_digest), pipeline.window_digest)


def prepared_by(digests: tuple[str, str, str], window: str = NEW) -> str:
    """Return what `prepared_under` does of digests: of schema, preparation and split rule, and of the window."""
    return sha256_digest(canonical([sha256_digest(canonical(list(digests))), window]))


def ref(blob: Blob) -> Ref:
    """Return where bytes are, for a document."""
    return Ref(uri=blob.uri, digest=blob.digest, size_bytes=blob.size_bytes)


def entry_of(manifest: SegmentManifest, stored: Blob, clock: str = "") -> Entry:
    """Return the entry of a segment whose manifest is kept, without a sketch; `clock` as of `Entry.clock`."""
    standing = [part for part in manifest.parts if part.held]
    firsts = [part.first_time for part in standing if part.first_time is not None]
    lasts = [part.last_time for part in standing if part.last_time is not None]
    return Entry(
        segment_id=manifest.segment_id,
        manifest=ref(stored),
        rows=manifest.rows,
        clock=clock,
        first_time=min(firsts) if firsts and len(firsts) == len(standing) else None,
        last_time=max(lasts, default=None),
    )


def renewed_entry(entry: Entry, manifest: SegmentManifest, stored: Blob) -> Entry:
    """Return the entry of a segment that has lost rows, and is kept under another manifest; it has no sketch yet."""
    new = entry_of(manifest, stored)
    update = {"manifest": new.manifest, "first_time": new.first_time, "last_time": new.last_time}
    return entry.model_copy(update={**update, "sketch": None, "sketched": ""})


def keep(segment: Segment, pipeline: Pipeline, store: BlobStore) -> Entry:
    """Keep a segment's manifest and sketch, and return its entry."""
    entry = entry_of(segment.manifest, store.put(segment.manifest.to_json()), pipeline.stream.time or "")
    return sketched(entry, segment.sketch, pipeline, store)


def sketched(entry: Entry, sketch: Sketch, pipeline: Pipeline, store: BlobStore) -> Entry:
    """Keep a sketch, made under this pipeline, and return the entry with it."""
    stored = ref(store.put(to_bytes(sketch)))
    return entry.model_copy(update={"sketch": stored, "sketched": preparation_of(pipeline)})


def kept_sketch(entry: Entry, pipeline: Pipeline, store: BlobStore) -> Sketch | None:
    """Return the sketch that was made of a segment under this pipeline, None when there is none."""
    if entry.sketch is None or entry.sketched != preparation_of(pipeline):
        return None
    try:
        sketch = from_bytes(store.get(entry.sketch), pipeline)
    except DatasetInvalid:
        return None  # it is made of the rows again
    # So is one of before classes were counted by split, where a number of them is asked for.
    is_short = pipeline.prepare.min_class_rows and any(side.labels is None for side in sketch.sides.values())
    return None if is_short else sketch
