"""What was served: one answered call."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from headrace_inference.core.releases import Release

MAX_EVENT_PART_BYTES = 256 * 1024
"""Requests and answers above this size are left out of `prediction.served`."""


class Served(NamedTuple):
    """One answered call, with the bytes that came and went."""

    release: Release
    prediction_id: str
    rows: int
    cached: bool
    duration_s: float
    """Seconds from the request's arrival to the answer."""
    request: bytes
    answer: bytes
    traceparent: str
    """W3C trace context of the call, empty without one."""
    request_digest: str = ""
    """Digest of a request that was too large to keep."""
    answer_digest: str = ""
    """Digest of such an answer."""
    places: str = ""
    """What the places of an answer stand for, as a JSON list of texts; empty where nobody asks."""
    keys: tuple[str, ...] = ()
    """Keys of its rows, as the call told them; none where nobody asks."""
    tried: str = ""
    """Version of the candidate among whose canary's calls it was, as `Candidates.tried` tells; empty for none."""

    @property
    def held_bytes(self) -> int:
        """Bytes of request and answer."""
        return len(self.request) + len(self.answer)

    def without_what_is_withheld(self) -> Served:
        """Return the call without its request and answer where the release withholds them."""
        return self._replace(request=b"", answer=b"") if self.release.withholds else self

    def without_large_parts(self) -> Served:
        """Return the call with the digest of its request or answer where that is too large for an event."""
        request, request_digest = _part(self.request)
        answer, answer_digest = _part(self.answer)
        return self._replace(request=request, answer=answer, request_digest=request_digest, answer_digest=answer_digest)


def _part(message: bytes) -> tuple[bytes, str]:
    if len(message) <= MAX_EVENT_PART_BYTES:
        return message, ""
    return b"", f"sha256:{sha256(message).hexdigest()}"
