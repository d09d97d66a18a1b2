"""Finds where the rows of a key are, and keeps what stands in the places of parts and manifests without them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from headrace.events.v1 import forget_pb2
from headrace_data.awaiting import READ
from headrace_data.erased_waiting import file_without
from headrace_data.erasing import (
    dataset_without,
    erase,
    has_columns_of,
    has_places,
    keys_in,
    may_be_of,
    rows_by_split,
    segment_without,
)
from headrace_data.errors import DataError, DatasetInvalid
from headrace_data.forgotten import FORGOTTEN, Forgotten, Suppression
from headrace_data.history import History
from headrace_data.manifest import Manifest, Part, SegmentManifest
from headrace_data.parts import Blob, BlobStore
from headrace_data.references import FOLDER
from headrace_data.spec import Field, Pipeline
from headrace_data.windows import fitted_anew
from headrace_runtime.object_store import Artifact

from headrace_preprocessing.transport.store_search import Stored

_YOUNG_S = 3_600.0
"""How long a file may lie (seconds) before the document that names it is written."""
_UPLOADED_S = 86_400.0
"""How long a file may lie (seconds) that a backfill is to take in: as long as the garbage collector leaves it."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """What is to be done about a key, once everything that is new is kept."""

    told: forget_pb2.KeyForgotten
    """What is told when it is done."""
    superseded: Mapping[str, Blob]
    """What stands in the place of each document, by digest."""
    gone: Mapping[str, float]
    """Digests of the objects that go, documents first: parts stay as long as anything names them.

    Beside each, when it was written last as of the look at it: what somebody puts since then stays.
    """


@dataclass
class Erasure:
    """Finds and erases the rows of one key."""

    pipeline: Pipeline
    specs: Sequence[Pipeline]
    """All that a pipeline of the name ever was."""
    store: BlobStore
    stored: Stored
    beat: Callable[[], None]
    _rows: dict[str, Mask] = field(default_factory=dict)
    """The rows of the key, by the digest of the part that has any."""
    _erased: dict[str, Part] = field(default_factory=dict)
    """The parts without them, by the digests of those with them."""
    _keyless: int = 0
    """Parts whose rows have no key."""
    _left: list[str] = field(default_factory=list)

    def of(self, key: Forgotten, secret: bytes, history: History, told: forget_pb2.KeyForgotten) -> Plan:
        """Return what is to be done about a key; `told` is completed. Raises DatasetInvalid for a damaged part."""
        suppression = Suppression([key], lambda _: secret)
        manifests: list[SegmentManifest | Manifest] = [*self.stored.segments.values(), *self.stored.datasets.values()]
        named = {part.digest: part for manifest in manifests for part in manifest.parts}
        for part in named.values():
            self.beat()
            self._look(part, suppression)
        superseded: dict[str, Blob] = {}
        for digest, segment in self.stored.segments.items():
            if self._names_any(segment):
                superseded[digest] = self.store.put(segment_without(segment, self._erased).to_json())
        superseded |= self._waiting(history, named, suppression)
        told.segments.extend(self._segments())
        for digest, dataset in self.stored.datasets.items():
            if self._names_any(dataset):
                superseded[digest] = self.store.put(self._dataset(dataset, told).to_json())
        gone = self._gone(superseded, history, named, suppression)
        if self._keyless:
            self._left.append(f"{self._keyless} parts: their rows have no key, and were not looked through")
        folders = {name for spec in self.specs for name in spec.stream.references or ()}
        self._left += [
            f"{FOLDER}/{name}: producers put values there, which no key is known of: remove those of the key there"
            for name in sorted(folders)
        ]
        told.erased.extend(self._told_of(kind, digest, superseded) for kind, digest in gone)
        told.searched.extend(
            forget_pb2.SearchedObjects(kind=kind, objects=count, size_bytes=self.stored.size_bytes[kind])
            for kind, count in sorted(self.stored.objects.items())
        )
        told.left.extend(self._left)
        return Plan(told, superseded, {digest: self.stored.written_s[digest] for _, digest in gone})

    def _look(self, part: Part, suppression: Suppression) -> None:
        """Look for rows of the key in a part, and keep it without them."""
        bare = part.model_copy(
            update={"left_out": {rule: bits for rule, bits in part.left_out.items() if rule == FORGOTTEN}}
        )
        keys = self._keys(bare)
        if keys is None or not (rows := suppression.among(keys)).any():
            return
        self._rows[part.digest] = rows
        self._erased[part.digest] = erase(bare, rows, self._fields(bare), self.store)

    def _keys(self, part: Part) -> pa.Array | None:
        """Return the keys of a part's rows: a pipeline of the name that was deleted may have called them otherwise."""
        name = _key_of(self.pipeline)
        if any(_key_of(spec) != name for spec in self.specs):
            own = (spec for spec in self.specs if has_columns_of(part, spec.stream.fields, self.store))
            name = _key_of(next(own, self.pipeline))
        self._keyless += not name
        return keys_in(self.store.get(part), name) if name else None

    def _keys_of_waiting(self, data: bytes) -> pa.Array | None:
        """Return the keys in a file of rows, or of labels that came later, where they may be called otherwise."""
        names = [name for spec in reversed(self.specs) if (name := _key_of(spec))]
        if keys_in(data, READ) is not None:
            names = [spec.stream.of_labels.fields[0].name for spec in self.specs if spec.stream.labels] + names
        return next((keys for name in names if (keys := keys_in(data, name)) is not None), None)

    def _fields(self, part: Part) -> Sequence[Field]:
        """Return the fields that a part was cut under: those with its columns."""
        for spec in self.specs:
            if has_columns_of(part, spec.stream.fields, self.store):
                return spec.stream.fields
        raise DatasetInvalid(f"expected the columns of a spec of pipeline {self.pipeline.name!r} in {part.uri}")

    def _names_any(self, manifest: SegmentManifest | Manifest) -> bool:
        return any(part.digest in self._erased for part in manifest.parts)

    def _segments(self) -> list[forget_pb2.ForgottenSegment]:
        """Return how many rows of the key each segment has; one has as many in all of its manifests."""
        counts: dict[str, int] = {}
        named = [(each.segment_id, each.parts) for each in self.stored.segments.values()]
        named += [(each.segment_id, each.parts) for one in self.stored.datasets.values() for each in one.slices]
        named += [(each.dataset_id, each.parts) for each in self.stored.datasets.values() if not each.slices]
        for segment_id, parts in named:
            rows = sum(int(self._rows[part.digest].sum()) for part in parts if part.digest in self._rows)
            counts[segment_id] = max(rows, counts.get(segment_id, 0))
        return [
            forget_pb2.ForgottenSegment(segment_id=name, rows=rows) for name, rows in sorted(counts.items()) if rows
        ]

    def _dataset(self, dataset: Manifest, told: forget_pb2.KeyForgotten) -> Manifest:
        """Return a dataset without the rows of the key, and tell how many it had."""
        counts = rows_by_split(dataset, self._rows, self.store, self.beat)
        found = forget_pb2.ForgottenDataset(dataset_id=dataset.dataset_id, **counts)
        if counts.total() and found not in told.datasets:
            told.datasets.append(found)
        without = dataset_without(dataset, self._erased, counts)
        spec = next((spec for spec in self.specs if spec.digest == dataset.spec_digest), None)
        if not counts["train"] or spec is None or without.reading is None:
            return without
        try:
            return without.model_copy(update={"transforms": fitted_anew(without, spec, self.store, self.beat)})
        except DataError as error:
            self._left.append(f"dataset {dataset.dataset_id}: what was fitted to the rows stays as it is: {error}")
            return without

    def _gone(
        self,
        superseded: Mapping[str, Blob],
        history: History,
        named: Mapping[str, Part],
        suppression: Suppression,
    ) -> list[tuple[str, str]]:
        """Return which objects go, documents first, each with what it is."""
        segments = {each.segment_id for each in self.stored.segments.values() if self._names_any(each)}
        sketches = {
            entry.sketch.digest
            for each in (history, *self.stored.histories.values())
            for entry in each.entries
            if entry.sketch is not None and entry.segment_id in segments
        }
        files = {source.digest for source in history.sources} & self.stored.written_s.keys()
        found = [(self._kind(digest), digest) for digest in superseded]
        found += [("sketch", digest) for digest in sorted(sketches & self.stored.written_s.keys())]
        found += [("part", digest) for digest in self._erased]
        found += [("file", digest) for digest in sorted(files)]
        found += [("part", digest) for digest in self._unnamed(named, history, suppression)]
        shared = [(kind, digest) for kind, digest in found if digest in self.stored.strangers]
        self._left += [
            f"{kind} {digest}: another pipeline has the same rows: forget the key there, too" for kind, digest in shared
        ]
        return [each for each in found if each not in shared]

    def _kind(self, digest: str) -> str:
        if digest in self.stored.segments:
            return "segment"
        return "dataset" if digest in self.stored.datasets else "waiting"

    def _waiting(self, history: History, named: Mapping[str, Part], suppression: Suppression) -> dict[str, Blob]:
        """Return what stands in the places of files of rows and labels that wait, without those of the key."""
        found: dict[str, Blob] = {}
        for digest in history.awaiting.digests if history.awaiting else ():
            if digest in named or (file := self.stored.files.get(digest)) is None:
                continue
            data = self.store.get(Artifact(file.name, digest, file.size_bytes))
            keys = self._keys_of_waiting(data)
            if keys is not None and (rows := suppression.among(keys)).any():
                found[digest] = self.store.put(file_without(data, rows))
        return found

    def _unnamed(self, named: Mapping[str, Part], history: History, suppression: Suppression) -> list[str]:
        """Return the files with rows of the key that no manifest names: nobody collected them yet.

        A new one with columns of other rows is what another pipeline is about to name, and a file whose rows have no
        places is one that a caller put there for a backfill, which may wait behind this order.
        """
        found, waiting = list[str](), history.awaiting.digests if history.awaiting else ()
        waited = {name for each in self.stored.histories.values() if each.awaiting for name in each.awaiting.digests}
        for digest, file in self.stored.files.items():
            if digest in named or digest in waiting or digest in self.stored.strangers:
                continue
            self.beat()
            keys = self._keys_of_waiting(data := self.store.get(Artifact(file.name, digest, file.size_bytes)))
            if keys is None or not suppression.among(keys).any():
                continue
            reason = None if digest in waited else self._awaited(data, time.time() - file.write_s)
            if reason is None:
                found.append(digest)
            else:
                self._left.append(f"{digest}: {reason}")
        return found

    def _awaited(self, data: bytes, age_s: float) -> str | None:
        """Return why a file that nobody names may be named yet; None where nobody does any more."""
        if not has_places(data):
            reason = "a file that a backfill may be about to take in: forget the key again in a day"
            return reason if age_s < _UPLOADED_S else None
        if age_s >= _YOUNG_S or any(may_be_of(data, spec.stream.fields) for spec in self.specs):
            return None
        return "a part that is new, and nobody names it yet: forget the key again in an hour"

    def _told_of(self, kind: str, digest: str, superseded: Mapping[str, Blob]) -> forget_pb2.ErasedObject:
        erased = self._erased.get(digest)
        replacement = superseded[digest].digest if digest in superseded else erased.digest if erased else ""
        return forget_pb2.ErasedObject(kind=kind, digest=digest, replacement=replacement)


def _key_of(pipeline: Pipeline) -> str:
    """Return the name of the field with the keys of a pipeline's rows; empty where they have none."""
    key = pipeline.stream.key_field
    return key.name if key is not None else ""
