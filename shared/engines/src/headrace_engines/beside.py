"""Graphs whose weights lie beside them, each in a file that is called by its digest.

A protobuf message ends at 2 GiB, and is in memory as a whole; ONNX has external data for what is larger. So a graph is
its bytes or, where it is large, the path of its file. There the location of a tensor is the digest of its bytes: the
digest of the small file names every weight, and equal weights of several graphs are one file. Nothing else is read: a
location is a name of this form, the whole of a regular file in the folder of the graph.

An adapter of a model of language has its base beside it in the same way: several of one base need it once.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from headrace_engines.adapter_files import is_adapter, read_adapter
from headrace_engines.errors import NotAModel
from headrace_engines.subgraphs import fields_of, has_control_flow

Graph = bytes | Path
"""A serialised graph, or the path of its file where its weights lie beside it, or it is a model of language."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SIZE: Final = re.compile(r"[0-9]{1,18}")
_GRAPH, _INITIALIZER, _EXTERNAL = 7, 5, 13
_OPERATORS: Final = (7, 1, 4)
"""Where a model has the kinds of its nodes."""
_LANGUAGE: Final = b"GGUF"
"""How the file of a model of language begins."""
_REPACKED: Final = frozenset({b"MatMulNBits"})
_ELSEWHERE: Final = ((7, 1, 5, 5), (7, 1, 5, 10), (7, 15, 1), (7, 15, 2), (25, 7, 5, 5), (25, 7, 5, 10))
"""Where a model holds tensors that are no constants of its graph: in attributes of nodes, and of functions' nodes, and
as sparse ones."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One file beside a graph, as the store is asked for it too."""

    digest: str
    """`sha256:` and 64 hexadecimal digits: its name as well."""
    size_bytes: int
    uri: str = ""


class Reference(Protocol):
    """Where bytes are in a store."""

    @property
    def uri(self) -> str:
        """Location."""

    @property
    def digest(self) -> str:
        """`sha256:` and 64 hexadecimal digits."""

    @property
    def size_bytes(self) -> int:
        """Size in bytes."""


KeptT = TypeVar("KeptT", covariant=True)


class Store(Protocol[KeptT]):
    """Keeps bytes by their digest."""

    def put(self, data: bytes) -> KeptT:
        """Keep bytes."""

    def put_file(self, path: Path) -> KeptT:
        """Keep a file, of any size."""

    def get(self, artifact: Reference) -> bytes:
        """Return bytes, verified."""

    def get_file(self, artifact: Reference, path: Path) -> None:
        """Write bytes of any size into a file, verified."""

    def head(self, artifact: Reference, count: int) -> bytes:
        """Return the first bytes, not verified."""


def weights_beside(graph: bytes) -> tuple[Weights, ...]:
    """Return the files that a serialised graph needs beside it, each once; none where it holds all weights itself.

    Of an adapter that is its base. Raises NotAModel where a location is no digest of a whole file, or is of anything
    but a constant of the graph.
    """
    if is_adapter(graph):
        told = read_adapter(graph)
        return (Weights(told.base, told.base_bytes),)
    try:
        view = memoryview(graph)
        found = dict.fromkeys(_weights(tensor) for tensor in _at(view, (_GRAPH, _INITIALIZER)) if _told(tensor))
        astray = any(_told(tensor) for path in _ELSEWHERE for tensor in _at(view, path))
    except (IndexError, ValueError) as error:
        raise NotAModel(f"expected a serialised ONNX model, got other bytes ({error})") from error
    if astray or (found and has_control_flow(graph)):
        raise NotAModel("expected external data of the graph's own constants alone, got that of another tensor")
    if len({each.digest for each in found}) < len(found):
        raise NotAModel("expected one size of each file of external data, got two")
    return tuple(found)


def is_language(graph: Graph) -> bool:
    """Return whether a graph is a model of language: GGUF, which holds all its weights itself, or an adapter of one."""
    return _is_gguf(graph) or is_adapter(graph)


def _is_gguf(graph: Graph) -> bool:
    if isinstance(graph, bytes):
        return graph[: len(_LANGUAGE)] == _LANGUAGE
    with graph.open("rb") as file:
        return file.read(len(_LANGUAGE)) == _LANGUAGE


def _beside(graph: Graph) -> tuple[Weights, ...]:
    """Return the files that a graph needs beside it: none where it is bytes, or a whole model of language."""
    return () if isinstance(graph, bytes) or _is_gguf(graph) else weights_beside(graph.read_bytes())


def is_mapped(graph: bytes) -> bool:
    """Return whether an engine computes with weights beside a graph as they lie there.

    Other kernels are ten times slower without a copy of their weights in an order of their own.
    """
    return not any(bytes(operator) in _REPACKED for operator in _at(memoryview(graph), _OPERATORS))


def beside_bytes(graph: Graph) -> int:
    """Return what the files take that a graph needs beside it."""
    return sum(each.size_bytes for each in _beside(graph))


def mapped_bytes(graph: Graph) -> int:
    """Return what an engine maps of a graph into memory."""
    return beside_bytes(graph) if isinstance(graph, Path) and _beside(graph) and is_mapped(graph.read_bytes()) else 0


def total_bytes(graph: Graph) -> int:
    """Return what a graph takes, with the files beside it."""
    return len(graph) if isinstance(graph, bytes) else graph.stat().st_size + beside_bytes(graph)


def own_bytes(graph: Graph) -> int:
    """Return what a graph takes that is no other's: of an adapter without its base, which versions share."""
    return total_bytes(graph) - (beside_bytes(graph) if is_adapter(graph) else 0)


def require_base(graph: Graph) -> Path | None:
    """Return the file that an adapter is a difference of; None of anything else. Raises as `require_beside` does."""
    if not is_adapter(graph):
        return None
    if isinstance(graph, bytes):
        raise NotAModel("expected an adapter with its base beside it, got the adapter alone")
    require_beside(graph)
    return graph.with_name(read_adapter(graph).base)


def require_beside(path: Path) -> bytes:
    """Return the bytes of a graph's file, of which every weight lies beside it.

    Sizes are looked at and digests are not: whoever puts a file there verifies it. Raises NotAModel where one is
    missing, of another size, or leads elsewhere.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotAModel(f"expected a graph in {path}, got {error}") from error
    for each in weights_beside(data):
        if reason := _unlike(path.with_name(each.digest), each.size_bytes):
            raise NotAModel(f"expected weights {each.digest} beside {path}, got {reason}")
    return data


def put(graph: Graph, store: Store[KeptT]) -> KeptT:
    """Keep a graph, its weights before it, so that whoever finds it finds these. Returns what the store does of it."""
    if isinstance(graph, bytes):
        return store.put(graph)
    for each in () if _is_gguf(graph) else weights_beside(require_beside(graph)):
        store.put_file(graph.with_name(each.digest))
    return store.put_file(graph)


def told(graph: Graph) -> dict[str, int]:
    """Return what a reference to a graph says beside where it is: `beside_bytes`, nothing of one that is one file."""
    return {"beside_bytes": found} if (found := beside_bytes(graph)) else {}


def digests(graph: Graph) -> list[str]:
    """Return the digests of the files that a graph needs beside it."""
    return [each.digest for each in _beside(graph)]


def get(beside: int, reference: Reference, store: Store[object], folder: Path) -> Graph:
    """Return a graph that is kept, with so many bytes beside it: its bytes, or its file in a folder.

    The latter where weights lie beside it, and of a model of language, whose weights are never in memory.
    What is there already is read through, and not fetched again: nothing is asked of the store where all of it is.
    Raises NotAModel, OSError where the disk has no room, and what the store raises.
    """
    path = folder / f"{reference.digest.removeprefix('sha256:')}.onnx"
    if not beside and (file := _language(path.with_suffix(".gguf"), reference, store)):
        return file
    is_there = beside and _is_whole(path, Weights(reference.digest, reference.size_bytes))
    data = path.read_bytes() if is_there else store.get(reference)
    weights = weights_beside(data) if beside else ()
    if not weights:
        return data
    if (size := sum(each.size_bytes for each in weights)) != beside:
        raise NotAModel(f"{reference.digest}: expected {beside} bytes beside it, got a graph with {size}")
    missing = [each for each in weights if not _is_whole(folder / each.digest, each)]
    _require_room(folder, reference.digest, sum(each.size_bytes for each in missing))
    for each in missing:
        store.get_file(each, folder / each.digest)
    if not is_there:
        path.write_bytes(data)
    return path


def _language(file: Path, reference: Reference, store: Store[object]) -> Path | None:
    """Return the file of a model of language, fetched unless it is there; None of another graph."""
    if not _is_whole(file, Weights(reference.digest, reference.size_bytes)):
        if store.head(reference, len(_LANGUAGE)) != _LANGUAGE:
            return None
        _require_room(file.parent, reference.digest, reference.size_bytes)
        store.get_file(reference, file)
    return file


def _require_room(folder: Path, digest: str, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(folder).free):
        raise OSError(errno.ENOSPC, f"{digest}: expected {needed} bytes for its weights, got {free}", folder)


def _unlike(path: Path, size_bytes: int) -> str:
    """Return what is wrong with a file beside a graph, empty when nothing is."""
    try:
        found = path.lstat()
    except OSError as error:
        return str(error)
    if not stat.S_ISREG(found.st_mode):
        return "no regular file"
    return "" if found.st_size == size_bytes else f"{found.st_size} bytes instead of {size_bytes}"


def _is_whole(path: Path, weights: Weights) -> bool:
    if _unlike(path, weights.size_bytes):
        return False
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == weights.digest


def _at(message: memoryview, path: tuple[int, ...]) -> Iterator[memoryview]:
    for number, content in fields_of(message):
        if number == path[0]:
            yield from _at(content, path[1:]) if len(path) > 1 else (content,)


def _told(tensor: memoryview) -> dict[str, str]:
    """Return what a tensor says of where its bytes are, empty where it holds them."""
    entries = (dict(fields_of(entry)) for entry in _at(tensor, (_EXTERNAL,)))
    return {bytes(entry.get(1, b"")).decode(): bytes(entry.get(2, b"")).decode() for entry in entries}


def _weights(tensor: memoryview) -> Weights:
    told = _told(tensor)
    location, length = told.get("location", ""), told.get("length", "")
    if not _DIGEST.fullmatch(location) or not _SIZE.fullmatch(length) or told.keys() != {"location", "length"}:
        raise NotAModel(f"expected the digest of a file as location of external data, with its length, got {told}")
    return Weights(location, int(length))
