"""The object store: artifacts under their SHA-256 and named files of runs, in a folder or any fsspec file system."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from headrace_runtime import superseded
from headrace_runtime.errors import Corrupt, HeadraceError, InvalidInput, NotFound, Unavailable, Unprocessable
from headrace_runtime.local_files import TEMPORARY, aside_of, replace_file
from headrace_runtime.stored_bytes import BLOCK, ArtifactRef, Translating, copied, require_bytes

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ARTIFACTS = "sha256"
"""The folder of artifacts."""
RENEWED_S = 3_600.0
"""A remote object that is put once more is written anew when it is older than that (seconds)."""
_BLOCKED = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})
"""Errors of a file system that works, and where something else lies in the way: no later attempt does better."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Bytes in the object store.

    Fields: `uri` as fsspec understands it, `digest` (`sha256:` and 64 hexadecimal digits), `size_bytes`.
    """

    uri: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store: an artifact under `sha256/`, or a named file.

    Fields: `name` under the store's URL, `size_bytes`, `write_s` (when it was written or put last, in seconds since the
    epoch by the clock of the store).
    """

    name: str
    size_bytes: int
    write_s: float


def digest_of(data: bytes) -> str:
    """Return the digest of bytes: `sha256:` and 64 lower-case hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    """Tell whether a text is `sha256:` and 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def verify(artifact: ArtifactRef, data: bytes) -> bytes:
    """Return `data` when it has the artifact's size and digest; raise `Corrupt` otherwise."""
    if len(data) != artifact.size_bytes:
        raise Corrupt(f"{artifact.uri}: expected {artifact.size_bytes} bytes, found {len(data)}")
    found = digest_of(data)
    if found != artifact.digest:
        raise Corrupt(f"{artifact.uri}: expected {artifact.digest}, found {found}")
    return data


class ObjectStore:
    """Artifacts (`put`, `get`) and named files (`write`, `read`, `list`) under one URL.

    An artifact lies at `<url>/sha256/<first 2 hexadecimal digits>/<64 hexadecimal digits>`. Its digest alone decides
    where it is read from: a store that moved to another URL still answers to older events, and an event cannot make a
    service read anything else. Every write is whole or absent: local files are written aside, flushed and renamed; the
    remote file systems of fsspec put whole objects. Safe for use by many threads and processes.

    Every method raises `Unavailable` when the file system fails. Those for named files raise `Unprocessable` when
    something that is no file of ours lies in the way.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InvalidInput(f"object store {url!r}: expected a folder or an fsspec URL ({error})") from error
        self._root = self._root.rstrip("/")

    @property
    def url(self) -> str:
        """The store's URL, with its scheme, such as `file:///var/lib/headrace/store`."""
        return str(self._fs.unstrip_protocol(self._root))

    def put(self, data: bytes) -> Artifact:
        """Keep bytes under their digest and return where they are.

        What is there already is read: the same bytes are not written again, and others, of a disk that failed or a hand
        that slipped, are replaced. Either way it counts as written now, so that `remove` leaves it.
        """
        digest = digest_of(data)
        path = self._artifact_path(digest)
        artifact = Artifact(str(self._fs.unstrip_protocol(path)), digest, len(data))
        with self._translated(artifact.uri), self._held(path):
            if self._size(path) != len(data) or self._read(path) != data or not self._renewed(path):
                self._replace(path, data)
        return artifact

    def get(self, artifact: ArtifactRef) -> bytes:
        """Return an artifact's bytes, verified; raise `NotFound`, or `Corrupt` when size or digest differ.

        Of one that was superseded and is gone they are those of what stands in its place.
        """
        path = self._artifact_path(artifact.digest)
        with self._translated(artifact.uri):
            data = self._read(path)
        if data is not None:
            return verify(artifact, data)
        if (successor := self.successor(artifact.digest)) is not None:
            return self.get(successor)
        raise NotFound(f"artifact {artifact.digest} ({artifact.uri}) is not in the object store {self.url}")

    def supersede(self, digest: str, successor: ArtifactRef) -> None:
        """Answer to an artifact's digest with another one from when it is gone: an older one of the same thing.

        What names the artifact stands as it is: an event, or a document under a digest of its own.
        """
        self.write(superseded.name_of(digest), superseded.to_bytes(successor))

    def successor(self, digest: str) -> Artifact | None:
        """Return what stands in the place of an artifact, None where nothing does. Raises `Corrupt`."""
        told = self.read(name := superseded.name_of(digest))
        return None if told is None else Artifact(**superseded.fields_of(name, told))

    def superseded(self) -> dict[str, Artifact]:
        """Return what stands in the places of artifacts, by their digests."""
        digests = [superseded.digest_in(name) for name in self.list(superseded.FOLDER)]
        return {digest: found for digest in digests if (found := self.successor(digest)) is not None}

    def put_file(self, path: Path) -> Artifact:
        """Keep a local file, of any size, under the digest of its bytes, and return where they are.

        What is there already is read, and counts as written now, as `put` does. Raises `Unavailable` when the file
        cannot be read, too.
        """
        with self._translated(str(path)), path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            kept = self._artifact_path(digest)
            artifact = Artifact(str(self._fs.unstrip_protocol(kept)), digest, file.tell())
            with self._held(kept):
                if not self._is_kept(artifact, kept):
                    file.seek(0)
                    self._copy(file, kept)
        return artifact

    def _is_kept(self, artifact: Artifact, path: str) -> bool:
        """Return whether the bytes are there; they count as written now."""
        try:
            with self.open(artifact):
                return self._renewed(path)
        except (NotFound, Corrupt):
            return False

    @contextmanager
    def open(self, artifact: ArtifactRef, beat: Callable[[], None] = lambda: None) -> Iterator[BinaryIO]:
        """Open an artifact of any size, whose bytes were read through and verified; `beat` is called meanwhile.

        Raises `NotFound`, or `Corrupt` when size or digest differ.
        """
        path = self._artifact_path(artifact.digest)
        with self._translated(artifact.uri):
            if self._size(path) is None:
                raise NotFound(f"artifact {artifact.digest} ({artifact.uri}) is not in the object store {self.url}")
            found = self._fs.open(path, "rb")
        reader = Translating(partial(self._translated, artifact.uri), found)
        with closing(found), io.BufferedReader(reader, BLOCK) as file:
            sha, size = hashlib.sha256(), 0
            while block := file.read(BLOCK):
                sha.update(block)
                size += len(block)
                beat()
            require_bytes(artifact, size, sha.hexdigest())
            file.seek(0)
            yield file

    def get_file(self, artifact: ArtifactRef, path: Path) -> None:
        """Write an artifact of any size into a local file, which is whole and verified, or not there.

        Raises `NotFound`, `Corrupt` when size or digest differ, and `Unavailable` when the file cannot be written, too.
        """
        kept = self._artifact_path(artifact.digest)
        with self._translated(artifact.uri or kept):
            if self._size(kept) is None:
                raise NotFound(f"artifact {artifact.digest} ({artifact.uri}) is not in the object store {self.url}")
            with closing(self._fs.open(kept, "rb")) as found, aside_of(path, flushed=False) as file:
                require_bytes(artifact, *copied(found, file, artifact.size_bytes))

    def head(self, artifact: ArtifactRef, count: int) -> bytes:
        """Return the first `count` bytes of an artifact, which are not verified, or raise `NotFound`."""
        path = self._artifact_path(artifact.digest)
        with self._translated(artifact.uri or path):
            try:
                return bytes(self._fs.cat_file(path, start=0, end=count))
            except FileNotFoundError:
                told = f"artifact {artifact.digest} ({artifact.uri}) is not in the object store {self.url}"
                raise NotFound(told) from None

    def write(self, name: str, data: bytes, *, flushed: bool = True) -> None:
        """Write a named file, such as `runs/<run>/attempt-1/checkpoint.safetensors`, over an older one.

        A local file that is not `flushed` may be gone or in pieces after the machine itself has failed: for what can be
        told to be whole and done without.
        """
        path = self._named_path(name)
        with self._unblocked(path):
            self._replace(path, data, flushed=flushed)

    def write_file(self, name: str, file: Path, *, flushed: bool = True) -> None:
        """Write a local file, of any size, as a named file: as `write`."""
        path = self._named_path(name)
        with self._unblocked(path), file.open("rb") as opened:
            self._copy(opened, path, flushed=flushed)

    def read(self, name: str) -> bytes | None:
        """Return a named file's bytes, or None when there is no such file."""
        path = self._named_path(name)
        with self._unblocked(path):
            return self._read(path)

    def beginning(self, name: str, count: int) -> bytes:
        """Return the first `count` bytes of a file, fewer of a shorter one, none when no such file is, or can be."""
        path = self._named_path(name)
        with suppress(Unprocessable), self._unblocked(path), suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(path, start=0, end=count))
        return b""

    def list(self, prefix: str) -> Sequence[str]:
        """Return the names, sorted, of all files in the folder `prefix` and below; empty without such a folder."""
        path = self._named_path(prefix)
        with self._unblocked(path):
            self._fs.invalidate_cache()
            found = self._fs.find(path) if self._fs.isdir(path) else ()
        names = (str(PurePosixPath(item).relative_to(self._root)) for item in found)
        return sorted(name for name in names if TEMPORARY not in name)

    def files(self, prefix: str) -> Sequence[StoredFile]:
        """Return all files in the folder `prefix` and below, in no order; empty without such a folder.

        Files that were written aside are among them: what a process that was killed has left.
        """
        path = self._named_path(prefix)
        with self._unblocked(path):
            self._fs.invalidate_cache()
            found = self._fs.find(path, detail=True) if self._fs.isdir(path) else {}
            return [
                StoredFile(place.removeprefix(f"{self._root}/"), int(about["size"]), self._write_s(place, about))
                for place, about in found.items()
            ]

    def remove(self, name: str, written_before_s: float) -> bool:
        """Remove a file unless it was written or put since then (seconds since the epoch); return whether it is gone.

        One that is not there is gone. In a folder nothing that is put meanwhile is lost. In a remote store an artifact
        that is put once more between the look at it and its removal is: some milliseconds, of bytes that nobody has
        named for long.
        """
        path = self._named_path(name)
        with self._unblocked(path), self._held(path) as is_there:
            if not is_there:
                return True
            try:
                self._fs.invalidate_cache()
                if self._write_s(path, self._fs.info(path)) >= written_before_s:
                    return False
                self._fs.rm_file(path)
            except FileNotFoundError:
                pass
            else:
                self._remove_folders(path)
        return True

    def _artifact_path(self, digest: str) -> str:
        if not is_digest(digest):
            raise InvalidInput(f"digest {digest!r}: expected 'sha256:' and 64 lower-case hexadecimal digits")
        hexadecimal = digest.removeprefix("sha256:")
        return f"{self._root}/{ARTIFACTS}/{hexadecimal[:2]}/{hexadecimal}"

    def _named_path(self, name: str) -> str:
        parts = name.rstrip("/").split("/")
        if any(part in {"", ".", ".."} for part in parts) or "\\" in name:
            raise InvalidInput(f"file name {name!r}: expected a relative path without empty parts, '.' or '..'")
        return f"{self._root}/{'/'.join(parts)}"

    @contextmanager
    def _held(self, path: str) -> Iterator[bool]:
        """Keep a file to this process, so that `put` and `remove` of one never meet; tell whether it is there."""
        if not isinstance(self._fs, LocalFileSystem):
            yield True
            return
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            yield False
            return
        try:
            # Given back by the system when the process ends, however it does.
            fcntl.flock(file, fcntl.LOCK_EX)
            yield os.fstat(file).st_nlink > 0
        finally:
            os.close(file)

    def _remove_folders(self, path: str) -> None:
        """Remove the folders of a run's file that are empty now; those of artifacts are few, and are used again."""
        if not isinstance(self._fs, LocalFileSystem):
            return
        for folder in Path(path).relative_to(self._root).parents:
            if len(folder.parts) < 2 or folder.parts[0] == ARTIFACTS:
                return
            try:
                (Path(self._root) / folder).rmdir()
            except OSError:
                return

    def _renewed(self, path: str) -> bool:
        """Make a file that is there count as written now. Return False where writing it anew does that."""
        if not isinstance(self._fs, LocalFileSystem):
            # No object is younger than its bytes; one that is young enough for whoever removes need not be written.
            return time.time() - self._write_s(path, self._fs.info(path)) < RENEWED_S
        os.utime(path)
        return True

    def _write_s(self, path: str, about: dict[str, object]) -> float:
        if isinstance(self._fs, LocalFileSystem):
            return float(str(about["mtime"]))
        modified = about.get("LastModified") or about.get("last_modified") or self._fs.modified(path)
        if isinstance(modified, datetime):
            return modified.timestamp()
        raise Unavailable(f"object store: {path}: expected the time of its last write, got {modified!r}")

    def _size(self, path: str) -> int | None:
        try:
            return int(self._fs.info(path)["size"])
        except FileNotFoundError:
            return None

    def _read(self, path: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(path))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def _replace(self, path: str, data: bytes, *, flushed: bool = True) -> None:
        if isinstance(self._fs, LocalFileSystem):
            replace_file(Path(path), data, flushed=flushed)
        else:
            self._fs.pipe_file(path, data)

    def _copy(self, file: BinaryIO, path: str, *, flushed: bool = True) -> None:
        if isinstance(self._fs, LocalFileSystem):
            with aside_of(Path(path), flushed=flushed) as aside:
                shutil.copyfileobj(file, aside, BLOCK)
        else:
            self._fs.put_file(file.name, path)

    @contextmanager
    def _unblocked(self, place: str) -> Iterator[None]:
        """Raise Unprocessable where something else lies in the way of a named file, in a store that is there."""
        with self._translated(place):
            try:
                yield
            except OSError as error:
                if error.errno in _BLOCKED and self._fs.isdir(self._root):
                    raise Unprocessable(f"object store: {place}: something else lies in the way: {error}") from error
                raise

    @contextmanager
    def _translated(self, place: str) -> Iterator[None]:
        try:
            yield
        except HeadraceError:
            raise
        except Exception as error:
            # Remote file systems let errors of their own clients through, which need not be OSErrors.
            if isinstance(error, OSError) or not isinstance(self._fs, LocalFileSystem):
                raise Unavailable(f"object store: {place}: {error}") from error
            raise
