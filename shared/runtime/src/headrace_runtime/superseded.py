"""What stands in the place of an artifact that was taken away: small files of the object store, by its digest."""

from __future__ import annotations

import json
from typing import Any, Final

from headrace_runtime.errors import Corrupt
from headrace_runtime.stored_bytes import ArtifactRef

FOLDER: Final = "superseded"


def name_of(digest: str) -> str:
    """Return the name of the file that says what stands in an artifact's place."""
    return f"{FOLDER}/{digest.removeprefix('sha256:')}"


def digest_in(name: str) -> str:
    """Return the digest of the artifact that a file is about."""
    return f"sha256:{name.rpartition('/')[2]}"


def to_bytes(successor: ArtifactRef) -> bytes:
    """Return what such a file says."""
    told = {"uri": successor.uri, "digest": successor.digest, "size_bytes": successor.size_bytes}
    return json.dumps(told, sort_keys=True).encode()


def fields_of(name: str, data: bytes) -> dict[str, Any]:
    """Return the fields of the artifact that a file names. Raises Corrupt."""
    try:
        found = json.loads(data)
        return {"uri": str(found["uri"]), "digest": str(found["digest"]), "size_bytes": int(found["size_bytes"])}
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"{name}: expected the place of an artifact: {error}") from error
