"""hash: a keyed hash, the same for the same value; nobody gets back from it, and without the key nobody makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Final

import pyarrow as pa

from headrace_data.private.keys import Secret
from headrace_data.private.treatment import NOTHING_FOUND, each_once

DIGEST_BYTES: Final = 16
"""Two of 2^32 values have the same hash with a chance of 2^-65."""


class Hash:
    """Hashes texts by BLAKE2b with a key (RFC 7693), as 32 hexadecimal digits of their UTF-8 bytes."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def treated(self, texts: pa.Array) -> tuple[pa.Array, Mapping[str, int]]:
        """Return the hash of each text."""
        return each_once(texts, self.of), NOTHING_FOUND

    def of(self, text: str) -> str:
        """Return the hash of one text."""
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=DIGEST_BYTES).hexdigest()

    @cached_property
    def _key(self) -> bytes:
        return self._secret.derived(b"headrace hash")
