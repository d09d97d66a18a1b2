"""Bytes on their way from the object store: read block by block, counted and digested."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Final, Protocol

from headrace_runtime.errors import Corrupt

BLOCK: Final = 2**20
"""Bytes that are read at a time of what may be larger than memory."""


class ArtifactRef(Protocol):
    """What it takes to find bytes again: an `Artifact`, the protobuf message of that name, or a data set's blob."""

    @property
    def uri(self) -> str:
        """Location as fsspec understands it."""

    @property
    def digest(self) -> str:
        """`sha256:` and 64 lower-case hexadecimal digits."""

    @property
    def size_bytes(self) -> int:
        """Size in bytes."""


def copied(source: Any, target: BinaryIO, most_bytes: int) -> tuple[int, str]:
    """Copy, no more than a little beyond `most_bytes`; return how many bytes there were, and their SHA-256."""
    sha, size = hashlib.sha256(), 0
    while size <= most_bytes and (block := source.read(BLOCK)):
        sha.update(block)
        size += len(block)
        target.write(block)
    return size, sha.hexdigest()


def require_bytes(artifact: ArtifactRef, size_bytes: int, sha256: str) -> None:
    """Raise `Corrupt` when what was read is not the artifact."""
    if (size_bytes, sha256) != (artifact.size_bytes, artifact.digest.removeprefix("sha256:")):
        raise Corrupt(
            f"{artifact.uri}: expected {artifact.digest} of {artifact.size_bytes} bytes, "
            f"found sha256:{sha256} of {size_bytes}"
        )


class Translating(io.RawIOBase):
    """An open file of a store, whose failures are the store's: whoever reads takes an OSError for a damaged file."""

    def __init__(self, translated: Callable[[], AbstractContextManager[None]], file: Any) -> None:
        self._translated = translated
        self._file = file

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def seekable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; return how many bytes there were."""
        with self._translated():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place and return it."""
        return int(self._file.seek(offset, whence))
