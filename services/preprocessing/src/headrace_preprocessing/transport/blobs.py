"""The object store as datasets need it: what is lost or damaged makes a dataset invalid, and stops nothing else."""

from __future__ import annotations

from headrace_data.errors import DatasetInvalid
from headrace_data.parts import Blob
from headrace_runtime.errors import Corrupt, NotFound
from headrace_runtime.object_store import ObjectStore


class Blobs:
    """Keeps and returns the bytes of segments, sketches and manifests."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, data: bytes) -> Blob:
        """Keep bytes under their digest. Raises Unavailable while the store is away."""
        return self._store.put(data)

    def get(self, blob: Blob) -> bytes:
        """Return a blob's bytes. Raises DatasetInvalid when they are gone or others."""
        try:
            return self._store.get(blob)
        except (NotFound, Corrupt) as error:
            raise DatasetInvalid(str(error)) from error
