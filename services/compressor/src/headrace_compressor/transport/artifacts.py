"""Files in the object store that a spec names by their digests."""

from headrace_learning.errors import NotLearnable
from headrace_runtime.errors import Corrupt, InvalidInput, NotFound
from headrace_runtime.object_store import Artifact, ObjectStore


class StoredArtifacts:
    """Reads artifacts by digest and size, wherever the store is by now."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, digest: str, size_bytes: int) -> bytes:
        """Return the bytes of a digest, verified. Raise `NotLearnable` where there are none, or others."""
        try:
            return self._store.get(Artifact(f"{self._store.url}/{digest}", digest, size_bytes))
        except (NotFound, Corrupt, InvalidInput) as error:
            raise NotLearnable(
                f"{size_bytes:,} bytes of {digest}, as train.network names them, are expected in the store ({error})"
            ) from error
