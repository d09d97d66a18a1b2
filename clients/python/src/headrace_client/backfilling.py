"""Files of history on their way into a pipeline: kept in the object store, from where preprocessing reads them.

Needs an extra of `headrace-client` that brings the object store: `kafka` or `report`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.backfill_pb2 import BackfillFile

from headrace_client.errors import InputInvalid
from headrace_client.row_files import TEXTS, digest, in_utf8
from headrace_client.stores import opened_store

FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
"""The format of a file by how its name ends."""


def format_of(path: Path) -> str:
    """Return a file's format by its name. Raises InputInvalid when that does not tell."""
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InputInvalid(f"{path.name}: expected a name that ends with {', '.join(FORMATS)}; or say --format")
    return found


def kept(
    paths: Sequence[Path],
    file_format: str | None = None,
    on_file: Callable[[Path], None] = lambda path: None,
    encoding: str = "",
) -> list[BackfillFile]:
    """Keep files in the object store, and return what a backfill names them by; what is there already is not copied.

    `file_format` is that of all files; without one, their names tell. Texts in another `encoding` are kept in UTF-8.
    Raises InputInvalid, SettingInvalid without a store, StoreFailed when it cannot be written to, and ExtraMissing.
    """
    formats = [file_format or format_of(path) for path in paths]
    files: list[BackfillFile] = []
    for path, each in zip(paths, formats, strict=True):
        digest(path, each, encoding)  # which tells of a text in another encoding
    with opened_store("backfill") as store:
        for path, each in zip(paths, formats, strict=True):
            on_file(path)
            with in_utf8(path, encoding if each in TEXTS else "") as text:
                found = store.put_file(text)
            artifact = Artifact(uri=found.uri, digest=found.digest, size_bytes=found.size_bytes)
            files.append(BackfillFile(name=path.name, format=each, artifact=artifact))
    return files
