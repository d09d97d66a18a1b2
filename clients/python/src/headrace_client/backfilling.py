"""Files of history on their way into a pipeline: kept in the object store, from where preprocessing reads them.

Needs an extra of `headrace-client` that brings the object store: `kafka` or `report`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.backfill_pb2 import BackfillFile

from headrace_client.addresses import PLATFORM_FILE, home_folder
from headrace_client.errors import ExtraMissing, InputInvalid, SettingInvalid, StoreFailed

if TYPE_CHECKING:
    from headrace_runtime.object_store import ObjectStore

STORE_SETTING = "HEADRACE_STORE_URL"
FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""The format of a file by how its name ends."""


def format_of(path: Path) -> str:
    """Return a file's format by its name. Raises InputInvalid when that does not tell."""
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InputInvalid(f"{path.name}: expected a name that ends with {', '.join(FORMATS)}; or say --format")
    return found


def kept(
    paths: Sequence[Path], file_format: str | None = None, on_file: Callable[[Path], None] = lambda path: None
) -> list[BackfillFile]:
    """Keep files in the object store, and return what a backfill names them by; what is there already is not copied.

    `file_format` is that of all files; without one, their names tell. Raises InputInvalid, SettingInvalid without a
    store, StoreFailed when it cannot be written to, and ExtraMissing.
    """
    formats = [file_format or format_of(path) for path in paths]
    try:
        from headrace_runtime.errors import HeadraceError
    except ModuleNotFoundError as error:
        raise ExtraMissing("backfill", "kafka") from error
    files: list[BackfillFile] = []
    try:
        store = _store()
        for path, each in zip(paths, formats, strict=True):
            on_file(path)
            found = store.put_file(path)
            artifact = Artifact(uri=found.uri, digest=found.digest, size_bytes=found.size_bytes)
            files.append(BackfillFile(name=path.name, format=each, artifact=artifact))
    except HeadraceError as error:
        raise StoreFailed(f"{error}; {STORE_SETTING} names the object store") from error
    return files


def _store() -> ObjectStore:
    from headrace_runtime.object_store import ObjectStore

    return ObjectStore(os.environ.get(STORE_SETTING) or _of_platform())


def _of_platform() -> str:
    path = home_folder() / PLATFORM_FILE
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        state = None
    url = state.get("store_url") if isinstance(state, dict) else None
    if not isinstance(url, str) or not url:
        raise SettingInvalid(
            f"expected {STORE_SETTING} with the object store of the platform, as its services have it, got none: "
            f"{path} names none either"
        )
    return url
