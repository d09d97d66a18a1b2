"""What lies in the object store of one pipeline: everything is looked at, whoever names it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from headrace_data.errors import ManifestInvalid
from headrace_data.history import History
from headrace_data.manifest import Manifest, SegmentManifest
from headrace_runtime.object_store import ARTIFACTS, ObjectStore, StoredFile

DOCUMENTS, PARTS, SKETCHES, OTHERS = "documents", "files of rows", "sketches", "graphs, weights and files of runs"
"""What objects are searched as."""
_BEGINNINGS: Final = {b"PAR1": PARTS, b"PK\x03\x04": SKETCHES}
_BEGINNING_BYTES: Final = 2**20
"""What is read of a file in braces to tell whether it is a document: others are rows as JSON Lines, of any size."""
_MARKS: Final = (b'"segment_id"', b'"dataset_id"', b'"entries"')
_DIGEST: Final = re.compile(rb"sha256:[0-9a-f]{64}")


@dataclass
class Stored:
    """What the store has of a pipeline, by digest, and what others have in it."""

    segments: dict[str, SegmentManifest] = field(default_factory=dict)
    datasets: dict[str, Manifest] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)
    """Digests that documents of other pipelines name."""
    files: dict[str, StoredFile] = field(default_factory=dict)
    """Files of rows, whoever names them."""
    written_s: dict[str, float] = field(default_factory=dict)
    """When each object was written last, whatever it is."""
    objects: Counter[str] = field(default_factory=Counter)
    """How many objects were looked at, by kind."""
    size_bytes: Counter[str] = field(default_factory=Counter)
    """Their sizes together, by kind."""

    def count(self, kind: str, file: StoredFile) -> None:
        """Count an object that was looked at."""
        self.objects[kind] += 1
        self.size_bytes[kind] += file.size_bytes


def digest_in(name: str) -> str:
    """Return the digest that an artifact's file is named by."""
    return f"sha256:{name.rpartition('/')[2]}"


def name_of(digest: str) -> str:
    """Return the name of an artifact's file."""
    plain = digest.removeprefix("sha256:")
    return f"{ARTIFACTS}/{plain[:2]}/{plain}"


def look_through(store: ObjectStore, pipeline: str, beat: Callable[[], None]) -> Stored:
    """Look at every object of a store; `beat` is called in between. Takes about as long as listing it.

    Raises Unavailable when the store fails.
    """
    found = Stored()
    for file in sorted(store.files(ARTIFACTS), key=lambda each: each.name):
        beat()
        beginning = store.beginning(file.name, 4)
        kind = DOCUMENTS if beginning[:1] == b"{" else _BEGINNINGS.get(beginning, OTHERS)
        found.count(kind, file)
        found.written_s[digest_in(file.name)] = file.write_s
        if kind == PARTS:
            found.files[digest_in(file.name)] = file
        elif kind == DOCUMENTS:
            _read(store, file, pipeline, found)
    for file in store.files("runs"):
        found.count(OTHERS, file)
    return found


def _read(store: ObjectStore, file: StoredFile, pipeline: str, found: Stored) -> None:
    beginning = store.beginning(file.name, _BEGINNING_BYTES)
    if not any(mark in beginning for mark in _MARKS):
        return
    data = beginning if file.size_bytes <= len(beginning) else store.read(file.name) or b""
    document = next(_parsed(data), None)
    if document is None or document.pipeline != pipeline:
        found.strangers.update(digest.decode() for digest in _DIGEST.findall(data))
        return
    digest = digest_in(file.name)
    if isinstance(document, SegmentManifest):
        found.segments[digest] = document
    elif isinstance(document, Manifest):
        found.datasets[digest] = document
    else:
        found.histories[digest] = document


def _parsed(data: bytes) -> Iterator[SegmentManifest | Manifest | History]:
    """Yield the document that the bytes are, if they are one."""
    kinds = (
        (Manifest, b'"dataset_id"'),
        (SegmentManifest, b'"segment_id"'),
        (History, b'"entries"'),
    )
    for kind, mark in kinds:
        if mark in data:
            try:
                yield kind.from_json(data)
            except ManifestInvalid:
                continue
