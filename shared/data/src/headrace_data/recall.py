"""What the dataset before was made of, so that the next one reads and adds only what is new. Bounded; may be lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from headrace_data.history import Entry
from headrace_data.manifest import SegmentManifest, Slice
from headrace_data.parts import Blob
from headrace_data.sketches import Sketch
from headrace_data.spec import Pipeline

Read = TypeVar("Read", SegmentManifest, Sketch)

MOST_BYTES: Final = 8 * 2**20
"""How large the files may be together that are kept as they were read; so may the manifests behind a sum."""


@dataclass(frozen=True)
class Taken:
    """What a window takes of one segment."""

    manifest: SegmentManifest
    rows: Slice


class Recall:
    """Keeps what was read for the newest dataset of one pipeline, and the sum of its sketches."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._before: dict[str, SegmentManifest | Sketch] = {}
        self._now: dict[str, SegmentManifest | Sketch] = {}
        self._bytes = 0
        self._sum: tuple[list[str], list[Taken], Sketch] | None = None

    def begin(self) -> None:
        """Begin a dataset: what the one before did not read is forgotten."""
        self._before, self._now, self._bytes = self._now, {}, 0

    def manifest(self, blob: Blob) -> SegmentManifest | None:
        """Return the manifest that was read of a file, which nobody changes; None when it must be read."""
        known = self._before.get(blob.digest)
        return known if isinstance(known, SegmentManifest) else None

    def sketch(self, blob: Blob | None) -> Sketch | None:
        """Return the sketch that was read of a file, None when it must be read."""
        known = self._before.get(blob.digest) if blob is not None else None
        return known if isinstance(known, Sketch) else None

    def keep(self, blob: Blob, read: Read) -> Read:
        """Keep what was read of a file while there is room, and return it."""
        if self._bytes + blob.size_bytes <= self._most_bytes and blob.digest not in self._now:
            self._now[blob.digest] = read
            self._bytes += blob.size_bytes
        return read

    def sum_of(self, entries: Sequence[Entry], pipeline: Pipeline) -> tuple[list[Taken], Sketch]:
        """Return what was taken of the first of these segments, and the sum of their sketches, to be added to.

        Nothing of none when the dataset before did not begin with these. Of one segment nothing is returned either: its
        dataset is made of all of its rows.
        """
        kept, self._sum = self._sum, None
        if kept is None or len(kept[0]) < 2 or _keys(entries[: len(kept[0])]) != kept[0]:
            return [], Sketch(pipeline)
        return kept[1], kept[2]

    def keep_sum(self, entries: Sequence[Entry], taken: Sequence[Taken], whole: Sketch) -> None:
        """Keep the sum of the sketches of these segments, where it is small: without samples of values."""
        if whole.has_samples or sum(entry.manifest.size_bytes for entry in entries) > self._most_bytes:
            return
        self._sum = (_keys(entries), list(taken), whole)


def _keys(entries: Sequence[Entry]) -> list[str]:
    # Sketches that were made anew have other digests; without one there is no telling.
    return [f"{entry.manifest.digest} {entry.sketch and entry.sketch.digest}" for entry in entries]
