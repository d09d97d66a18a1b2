"""Removes from the object store what nothing needs: marks it at one look, and removes it at a later one.

An object is removed when nothing refers to it, now and at a look of at least an hour ago, and it was not written or put
for the time of grace. Whoever writes objects names them soon after, in a message that is committed; until then they are
young. Whoever takes objects that exist has them from something that is needed, or puts them once more.

What is marked is kept in one file of the store. Whoever is killed in between leaves a store in which only such
objects are missing that nothing needs; the next collection goes on.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

from headrace_data.canonical import sha256_digest
from headrace_data.history import History
from headrace_data.manifest import Ref
from headrace_runtime.errors import FailedPrecondition, NotFound, Unavailable

from headrace_model_registry.core import retention
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.draft import Draft
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.roots import HISTORY, RUN, SPEC, Histories, Roots, roots
from headrace_model_registry.core.state import State
from headrace_model_registry.core.wishes import Retirement
from headrace_model_registry.ports import Objects, StoredFile, Writer

SETTLE_S: Final = 3_600.0
"""How long after it was marked an object stays at least: readers that nobody knows of end meanwhile."""
MARKS: Final = "gc/marked.json"
"""The file that tells when each object was marked."""
_FOLDERS: Final = ("sha256", "runs", "gc")
_ARTIFACT: Final = re.compile(r"sha256/[0-9a-f]{2}/([0-9a-f]{64})")
_RUN_FILE: Final = re.compile(r"runs/([^/]+)/(?:[^/]+/)*([^/]+)")
_DIGEST: Final = re.compile(rb"sha256:([0-9a-f]{64})")
_LIST_BYTES: Final = 2**20
"""What is read of a list of files: a spec may name any object as one, of any size."""
_KINDS: Final = {b"PAR1": "parts of datasets", b"PK\x03\x04": "sketches of segments"}


class ObjectFate(IntEnum):
    """What becomes of an object."""

    UNSPECIFIED = 0
    REMOVED = 1
    MARKED = 2
    YOUNG = 3
    KEPT = 4


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """Objects of one kind of which the same became."""

    fate: ObjectFate
    kind: str
    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RetiredVersion:
    """A version that was let go."""

    pipeline: str
    model: str
    ordinal: int
    version_id: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of the objects, or would."""

    counts: tuple[ObjectCount, ...]
    retired: tuple[RetiredVersion, ...]


@dataclass(slots=True)
class _Tally:
    """Counts of objects and bytes, by fate and kind."""

    objects: Counter[tuple[ObjectFate, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[ObjectFate, str]] = field(default_factory=Counter)

    def add(self, fate: ObjectFate, kind: str, size_bytes: int) -> None:
        """Count one object."""
        self.objects[fate, kind] += 1
        self.bytes[fate, kind] += size_bytes

    def counts(self) -> tuple[ObjectCount, ...]:
        """Return the counts, by fate and kind."""
        return tuple(ObjectCount(*key, self.objects[key], self.bytes[key]) for key in sorted(self.objects))


class Collector:
    """Collects, one call at a time. `stop` ends a collection between two objects."""

    def __init__(
        self, state: State, writer: Writer, objects: Objects, histories: Callable[[], Histories], grace_s: float
    ) -> None:
        """`histories` returns the newest one of each pipeline; `grace_s` is how long what was written is young."""
        self._state = state
        self._writer = writer
        self._objects = objects
        self._histories = histories
        self._grace_s = grace_s
        self._busy = threading.Lock()
        self._stopping = threading.Event()

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """Let a collection end early."""
        self._stopping.set()

    def collect(self, dry_run: bool) -> Collected:
        """Let versions go, mark and remove; with `dry_run` only tell what would be done.

        Raises FailedPrecondition while another collection is under way, or when the catalogue is empty, Corrupt when a
        document that names objects cannot be read, and Unavailable when the store or Kafka fails: nothing more is
        removed then.
        """
        if not self._busy.acquire(blocking=False):
            raise FailedPrecondition("another collection is under way; ask again when it has ended")
        try:
            return self._collect(datetime.now(UTC), dry_run)
        finally:
            self._busy.release()

    def _collect(self, moment: datetime, dry_run: bool) -> Collected:
        before = self._state.catalogue
        if not any(home.pipelines for home in before.homes):
            raise FailedPrecondition(
                "no pipeline was ever applied here: expected the registry whose objects these are; nothing is removed"
            )
        gone = retention.let_go(before, moment)
        catalogue = self._retired(before, moment, dry_run)
        needed = Needed(roots(catalogue, self._histories(), moment), self._objects)
        tally, marks = self._sweep(needed, self._marked(), moment.timestamp(), dry_run)
        if not dry_run:
            self._objects.write(MARKS, json.dumps(marks, sort_keys=True).encode())
        retired = [RetiredVersion(v.trained.pipeline, v.trained.model, v.ordinal, v.trained.version_id) for v in gone]
        return Collected(tally.counts(), tuple(retired))

    def _retired(self, catalogue: Catalogue, moment: datetime, dry_run: bool) -> Catalogue:
        """Return the catalogue once versions were let go; in a dry run as it would be."""
        if dry_run:
            draft = Draft(catalogue)
            draft.take(Retirement(moment), moment)
            return draft.catalogue
        # Recorded before anything is removed: from then on no rollback serves them.
        self._writer.write(Retirement(moment))
        return self._state.catalogue

    def _marked(self) -> Mapping[str, float]:
        data = self._objects.read(MARKS)
        try:
            found = json.loads(data or b"{}")
            return {str(name): float(since_s) for name, since_s in found.items()}
        except (ValueError, TypeError, AttributeError):
            return {}  # Marks that cannot be read are made anew: everything is looked at twice.

    def _sweep(
        self, needed: "Needed", marked: Mapping[str, float], now_s: float, dry_run: bool
    ) -> tuple[_Tally, dict[str, float]]:
        """Remove what was marked before; return what became of everything, and the marks that stand now."""
        tally, marks = _Tally(), dict[str, float]()
        oldest_s = now_s - self._grace_s
        for file in self._files():
            if kept_by := needed.keeps(file.name):
                tally.add(ObjectFate.KEPT, kept_by, file.size_bytes)
                continue
            kind = self._kind(file.name)
            if file.write_s >= oldest_s:
                tally.add(ObjectFate.YOUNG, kind, file.size_bytes)
                continue
            since_s = min(marked.get(file.name, now_s), now_s)
            if since_s > now_s - min(SETTLE_S, self._grace_s) or file.name not in marked:
                marks[file.name] = since_s
                tally.add(ObjectFate.MARKED, kind, file.size_bytes)
            elif dry_run or self._objects.remove(file.name, oldest_s):
                tally.add(ObjectFate.REMOVED, kind, file.size_bytes)
            else:
                tally.add(ObjectFate.YOUNG, kind, file.size_bytes)
        return tally, marks

    def _files(self) -> Iterable[StoredFile]:
        for folder in _FOLDERS:
            for file in self._objects.files(folder):
                if self._stopping.is_set():
                    raise Unavailable("the registry stops; the collection goes on with the next one")
                if file.name != MARKS:
                    yield file

    def _kind(self, name: str) -> str:
        if name.startswith("runs/"):
            return "files of runs"
        if not _ARTIFACT.fullmatch(name):
            return "unfinished writes"
        beginning = self._objects.beginning(name, 4)
        return _KINDS.get(beginning, "documents" if beginning[:1] in (b"{", b"[") else "graphs and weights")


class Needed:
    """What is needed, by name. Raises what `Collector.collect` does."""

    def __init__(self, found: Roots, objects: Objects) -> None:
        self._objects = objects
        self._roots = found
        self._keeps: dict[str, str] = {}
        for history in found.histories:
            self._add_history(history)
        for history in found.replayed:
            with suppress(NotFound):  # Collected after the run had ended: nothing reads it any more.
                self._add_history(history)
        for document, kept_by in found.documents.items():
            self._add_document(document, kept_by)
        for folder in found.folders:
            self._add_folder(folder)
        for artifact, kept_by in found.artifacts.items():
            self._add(artifact.digest, kept_by)
        for run_id in found.live_runs:
            # What a child has put may be named by its result alone, until the fact is recorded.
            self._add_all(objects.read(f"runs/{run_id}/result.json") or b"", RUN)

    def keeps(self, name: str) -> str:
        """Return what keeps a file, empty when nothing does."""
        if artifact := _ARTIFACT.fullmatch(name):
            return self._keeps.get(artifact[1], "")
        run = _RUN_FILE.fullmatch(name)
        if run is None or run[1] in self._roots.live_runs:
            return RUN if run else ""
        is_checkpoint = run[2].startswith("checkpoint") or run[2].startswith(".")
        return RUN if run[1] in self._roots.told_runs and not is_checkpoint else ""

    def _add_history(self, history: Artifact) -> None:
        self._add(history.digest, HISTORY)
        # A history that is not there cannot be told from one that was lost: the pipeline cannot be cut without it.
        known = History.from_json(self._objects.get(history))
        for entry in known.entries:
            self._add_document(entry.manifest, HISTORY)
            if entry.sketch is not None:
                self._add(entry.sketch.digest, HISTORY)
        for digest in known.awaiting.digests if known.awaiting else ():
            self._add(digest, HISTORY)

    def _add_document(self, document: Artifact | Ref, kept_by: str) -> None:
        self._add(document.digest, kept_by)
        try:
            data = self._objects.get(document)
        except NotFound:
            return  # Collected before `retain` was taken back: it names nothing any more.
        # What stands in its place, where rows of a forgotten key have left it.
        self._add(sha256_digest(data), kept_by)
        self._add_all(data, kept_by)

    def _add_folder(self, digest: str) -> None:
        """Add a list of files that a spec names. What the spec says of its size is whatever somebody wrote."""
        self._add(digest, SPEC)
        plain = digest.removeprefix("sha256:")
        self._add_all(self._objects.beginning(f"sha256/{plain[:2]}/{plain}", _LIST_BYTES), SPEC)

    def _add_all(self, data: bytes, kept_by: str) -> None:
        """Add every digest that stands in a document, whatever it is of: what is too many keeps nothing."""
        for digest in _DIGEST.findall(data):
            self._keeps.setdefault(digest.decode(), kept_by)

    def _add(self, digest: str, kept_by: str) -> None:
        self._keeps.setdefault(digest.removeprefix("sha256:"), kept_by)
