"""Folders in the object store: files that belong together, such as a model of others', found by one digest.

The folder is a list of its files, each by its digest: canonical JSON, kept as any other artifact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace_data.canonical import canonical
from headrace_data.errors import ManifestInvalid

FORMAT: Final = "headrace-folder/1"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_PATH: Final = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[^/\\\0]+(/[^/\\\0]+)*")
"""Relative, with / between folders, and leading nowhere else."""


@dataclass(frozen=True)
class FileRef:
    """A file of a folder, by what it holds."""

    digest: str
    """`sha256:` and 64 hexadecimal digits."""
    size_bytes: int


@dataclass(frozen=True)
class Folder:
    """The files of a folder."""

    files: Mapping[str, FileRef]
    """By their paths in the folder, with / between its folders."""

    def to_json(self) -> bytes:
        """Return the list as canonical JSON."""
        files = {
            path: {"digest": file.digest, "size_bytes": file.size_bytes} for path, file in sorted(self.files.items())
        }
        return canonical({"format": FORMAT, "files": files})

    @staticmethod
    def from_json(data: bytes) -> Folder:
        """Read what `to_json` wrote. Raises ManifestInvalid."""
        try:
            plain = json.loads(data)
        except ValueError as error:
            raise ManifestInvalid(f"folder: expected a list of files as JSON, got other bytes ({error})") from error
        files = plain.get("files") if isinstance(plain, dict) else None
        if not isinstance(plain, dict) or plain.get("format") != FORMAT or not isinstance(files, dict):
            raise ManifestInvalid(f"folder: expected the files of a {FORMAT}, got another document")
        return Folder({path: _file(path, file) for path, file in files.items()})


def _file(path: str, plain: Any) -> FileRef:
    if not _PATH.fullmatch(path):
        raise ManifestInvalid(f"folder: expected a path within it, got {path!r}")
    digest, size = (plain.get(key) for key in ("digest", "size_bytes")) if isinstance(plain, dict) else (None, None)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise ManifestInvalid(f"folder: expected digest and size of {path!r}, got {plain!r}")
    return FileRef(digest, size)
