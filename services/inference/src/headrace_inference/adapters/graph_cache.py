"""Graphs on the local disk under their digest: a replica that starts again needs no object store."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from headrace_engines import GGUF, beside, format_of
from headrace_engines.errors import NotAModel
from headrace_runtime.errors import Corrupt, Unprocessable
from headrace_runtime.local_files import TEMPORARY, replace_file
from headrace_runtime.object_store import ObjectStore, verify

from headrace_inference.core.releases import Graph

logger = logging.getLogger(__name__)

MAGIC_BYTES = 4
"""First bytes of a graph, which tell its format."""
SPARE = 8
"""Graphs that are kept beyond those in use, so that going back to an older release is quick."""


class GraphCache:
    """Fetches graphs, and keeps them in a folder. Used by one thread."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def get(self, graph: Graph, used: Callable[[], Collection[str]] = tuple) -> beside.Graph:
        """Return a graph, verified: its bytes, or its file where its weights lie beside it, or it is a GGUF.

        From the folder, else the store. Where the disk has no room for a file or weights, graphs make it that have none
        of the digests `used`. Raises what the store raises, Unprocessable for one whose weights cannot be told, and
        OSError where they cannot be kept.
        """
        if graph.beside_bytes:
            try:
                return self._beside(graph, used)
            except NotAModel as error:
                raise Unprocessable(f"graph {graph.digest}: {error}") from error
        path = self._path(graph.digest)
        file = path.with_suffix(".gguf")
        if _is_whole(file, graph):
            return file
        data = self._local(graph, path)
        if data is None:
            if format_of(self._store.head(graph, MAGIC_BYTES)) == GGUF:
                self._make_room(graph, used)
                self._store.get_file(graph, file)
                return file
            data = self._store.get(graph)
            self._keep(path, data)
        return data

    def alone(self, graph: Graph) -> bytes:
        """Return a graph without what may lie beside it, verified; it is not kept. Raises what the store raises."""
        return self._store.get(graph)

    def head(self, graph: Graph, count: int) -> bytes:
        """Return the first bytes of a graph, which are not verified. Raises what the store raises."""
        return self._store.head(graph, count)

    def _beside(self, graph: Graph, used: Callable[[], Collection[str]]) -> beside.Graph:
        try:
            return beside.get(graph.beside_bytes, graph, self._store, self._folder)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        self.tidy({graph.digest, *used()}, spare=0)
        return beside.get(graph.beside_bytes, graph, self._store, self._folder)

    def _make_room(self, graph: Graph, used: Callable[[], Collection[str]]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < graph.size_bytes:
            self.tidy({graph.digest, *used()}, spare=0)

    def tidy(self, used: Collection[str], spare: int = SPARE) -> None:
        """Remove all but the graphs with these digests, the last few others, and what a fetch that was killed left."""
        kept = {self._path(digest) for digest in used}
        try:
            graphs = (*self._folder.glob("*.onnx"), *self._folder.glob("*.gguf"))
            others = [path for path in graphs if path.with_suffix(".onnx") not in kept]
            for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)[spare:]:
                path.unlink()
            for path in self._folder.glob(f"{TEMPORARY}*"):
                path.unlink()
            self._tidy_weights()
        except OSError as error:
            logger.warning("graphs that nobody uses are not removed from %s: %s", self._folder, error)

    def _tidy_weights(self) -> None:
        """Remove weights beside which no graph is left that names them."""
        weights = {path.name: path for path in self._folder.glob("sha256:*")}
        if not weights:
            return
        for path in self._folder.glob("*.onnx"):
            with suppress(NotAModel):
                for each in beside.weights_beside(path.read_bytes()):
                    weights.pop(each.digest, None)
        for path in weights.values():
            path.unlink()

    def _local(self, graph: Graph, path: Path) -> bytes | None:
        try:
            return verify(graph, path.read_bytes())
        except OSError:
            return None
        except Corrupt as error:
            logger.warning("a graph in %s is fetched again: %s", self._folder, error)
            return None

    def _keep(self, path: Path, data: bytes) -> None:
        try:
            replace_file(path, data)
        except OSError as error:
            logger.warning("a graph is served, but not kept in %s: %s", self._folder, error)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}.onnx"


def _is_whole(path: Path, graph: Graph) -> bool:
    """Return whether a file is there and has the bytes of a graph."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == graph.digest
    except OSError:
        return False
