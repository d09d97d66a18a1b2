"""Folders of pictures or sounds, in folders by class, as people have them: found, opened, and pushed file by file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace_data.files import Rows
from headrace_data.formats.file_fields import FILES, rows_together
from headrace_data.spec import Pipeline

from headrace_client.errors import InputInvalid
from headrace_client.ingestion import IngestionClient
from headrace_client.pushing import MOST_BYTES, Batch, Pushed, run

KINDS: Final = {".png": "image", ".jpg": "image", ".jpeg": "image", ".wav": "sound", ".flac": "sound"}
"""What a file is by how its name ends."""
LABEL: Final = "label"
"""The header that says in which folder a file lies."""
MOST_TOGETHER: Final = 256
_MOST_FILE_BYTES: Final = 8 * 2**20 - 2**16
"""Bytes of a file that a message of ingestion has room for."""


@dataclass(frozen=True)
class ClassFile:
    """A file in a folder of its class."""

    path: Path
    name: str
    """Its place in the folder of all: `cats/7.png`."""
    kind: str
    """image or sound."""
    size_bytes: int

    @property
    def label(self) -> str:
        """The folder that it lies in."""
        return self.name.partition("/")[0]


def files_in(folder: Path) -> list[ClassFile]:
    """Return all pictures or all sounds in the folders of a folder, mixed, in an order that is always the same.

    Raises InputInvalid where there are none, or both, and for a name that is no text, as no key and no label is.
    """
    paths = [each for each in folder.glob("*/**/*") if each.suffix.lower() in KINDS and each.is_file()]
    names = [(path, path.relative_to(folder).as_posix()) for path in paths]
    found = [
        ClassFile(path, name, KINDS[path.suffix.lower()], path.stat().st_size)
        for path, name in names
        if not any(part.startswith(".") for part in name.split("/"))
    ]
    if len({each.kind for each in found}) != 1:
        got = "both pictures and sounds" if found else "none"
        raise InputInvalid(f"{folder.resolve().name}: expected folders by class of {', '.join(KINDS)} files, got {got}")
    if bad := next((each.name for each in found if any(map(_is_no_text, each.name))), None):
        raise InputInvalid(f"{bad!a}: expected a file's name in UTF-8, got bytes that are none")
    # In the order of their names a cut would have one class.
    return sorted(found, key=lambda each: hashlib.blake2b(each.name.encode()).digest())


def _is_no_text(character: str) -> bool:
    """Return whether Python has put it in the place of a byte that is no UTF-8."""
    return "\ud800" <= character <= "\udfff"


def opened(file: ClassFile) -> bytes:
    """Return the bytes of a file. Raises InputInvalid."""
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise InputInvalid(f"{file.name} cannot be read: {error.strerror or error}") from error


class FolderPush:
    """The push of a folder's files: each is a record, its place the key, and its folder the header `label`.

    A batch's id names what is in it, so that a repeat makes the same ones, and nothing is read before it is sent.
    """

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        """Find the files. Raises InputInvalid for a folder without any, and for a pipeline whose records are others."""
        self._pipeline = pipeline
        self._name = folder.resolve().name
        self._files = files_in(folder)
        self.size_bytes = sum(each.size_bytes for each in self._files)
        kind = pipeline.stream.format_kind
        if kind != self._files[0].kind:
            told = f"{self._name} has files of the format {self._files[0].kind}"
            raise InputInvalid(f"{told}: expected a pipeline whose stream.format is that, got {kind}")
        if large := next((each for each in self._files if each.size_bytes > _MOST_FILE_BYTES), None):
            raise InputInvalid(f"{large.name}: expected at most {_MOST_FILE_BYTES} bytes, got {large.size_bytes}")
        self._most = min(MOST_TOGETHER, rows_together(pipeline.stream)) if kind in FILES else MOST_TOGETHER

    def run(self, ingestion: IngestionClient, on_progress: Callable[[Pushed, int], None]) -> Pushed:
        """Push the folder's files: see `pushing.Push`."""
        batches: dict[str, Batch] = {}
        return run(self._name, ingestion, self._requests(batches), batches, on_progress)

    def _requests(self, batches: dict[str, Batch]) -> Iterator[messages.PushRequest]:
        read = 0
        for files in self._together():
            values = [opened(each) for each in files]
            read += sum(map(len, values))
            request = messages.PushRequest(
                pipeline=self._pipeline.name, records=values, contexts=[_context(each) for each in files]
            )
            request.batch_id = f"folder/{hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()}"
            rows = Rows(range(len(files)), values, faults={})
            batches[request.batch_id] = Batch(request.batch_id, rows, read, [each.name for each in files])
            yield request

    def _together(self) -> Iterator[list[ClassFile]]:
        some: list[ClassFile] = []
        for each in self._files:
            if some and (len(some) >= self._most or sum(one.size_bytes for one in some) + each.size_bytes > MOST_BYTES):
                yield some
                some = []
            some.append(each)
        yield some


def _context(file: ClassFile) -> Any:
    header = messages.RecordHeader(name=LABEL, value=file.label.encode())
    return messages.RecordContext(key=file.name.encode(), headers=[header])
