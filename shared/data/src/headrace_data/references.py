"""Records that come by reference: their values lie in the object store, and headers say where and which bytes they are.

A producer puts the bytes at `payloads/<name>` of the store, and sends a message without a value that has `headrace-ref:
<name>` and `headrace-ref-digest: sha256:<64 hexadecimal digits>`. Only names within folders that the stream names are
read, and nothing of the store beside `payloads/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from headrace_data.rejections import Rejection
from headrace_data.select.values import Message
from headrace_data.spec.scalars import DIGEST

RULE: Final = "reference"
"""Rule: what a record refers to is there, as it says."""
HEADER: Final = "headrace-ref"
DIGEST_HEADER: Final = "headrace-ref-digest"
FOLDER: Final = "payloads"
"""Folder of the object store."""
MOST_BYTES: Final = 32 * 1024 * 1024
"""Bytes of the largest value that a record may refer to."""
TOGETHER: Final = 4
"""Records whose values are fetched at a time."""
MOST_REFERRED: Final = 64
"""Records that are taken at a time: their rows may be of 7 MB each."""
_LONGEST_NAME: Final = 1024


class Payloads(Protocol):
    """The object store. Raises what tells of a trouble that may pass, when it does not answer."""

    def beginning(self, name: str, count: int) -> bytes:
        """Return the first bytes of a file, fewer of a shorter one, none when there is no such file."""


class References:
    """Fetches what the records of one stream refer to."""

    def __init__(self, folders: Collection[str], payloads: Payloads) -> None:
        """`folders` are those that names may lie in, such as `scans/2026`."""
        self._within = tuple(f"{folder}/" for folder in folders)
        self._payloads = payloads

    def fetched(
        self, values: Sequence[bytes | None], messages: Sequence[Message], start: int
    ) -> tuple[list[bytes | None], dict[int, Rejection]]:
        """Return values with what they refer to, none of those that refer to nothing; and why, by position.

        Positions are from `start` on. Raises what the store does.
        """
        found: list[bytes | None] = []
        faults: dict[int, Rejection] = {}
        for position, (value, message) in enumerate(zip(values, messages, strict=True), start):
            told = dict(message.headers)
            fetched = self._fetched(value, told) if HEADER in told else value
            if isinstance(fetched, str):
                faults[position] = Rejection(position, RULE, "", fetched)
            found.append(None if isinstance(fetched, str) else fetched)
        return found, faults

    def _fetched(self, value: bytes | None, headers: dict[str, bytes]) -> bytes | str:
        """Return the bytes that a record refers to, or why there are none."""
        name, digest = (headers.get(key, b"").decode(errors="replace") for key in (HEADER, DIGEST_HEADER))
        if value:
            return f"expected no value beside {HEADER}, got {len(value)} bytes"
        if not name.startswith(self._within) or not _is_name(name):
            return f"{HEADER}: expected a name within {', '.join(self._within)}, got {name[:200]!r}"
        if not DIGEST.fullmatch(digest):
            return f"{DIGEST_HEADER}: expected sha256: and 64 hexadecimal digits, got {digest[:80]!r}"
        data = self._payloads.beginning(f"{FOLDER}/{name}", MOST_BYTES + 1)
        if not data:
            return f"expected bytes at {FOLDER}/{name} in the object store, got none"
        if len(data) > MOST_BYTES:
            return f"{FOLDER}/{name}: expected at most {MOST_BYTES} bytes, got more"
        if (got := f"sha256:{hashlib.sha256(data).hexdigest()}") != digest:
            return f"{FOLDER}/{name}: expected {digest}, got {got}"
        return data


def _is_name(name: str) -> bool:
    parts = name.split("/")
    return len(name) <= _LONGEST_NAME and name.isprintable() and "\\" not in name and not {"", ".", ".."} & {*parts}
