"""Keys of treatments, by name: read when the first value is treated, and never stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Final

from headrace_data.errors import KeyMissing

LEAST_BYTES: Final = 32
"""Least size of a key; white space at its ends, such as a line's end, is none of it."""
Keys = Callable[[str], bytes]
"""Returns the bytes of a key by its name. Raises what says why there is none."""


def no_keys(name: str) -> bytes:
    """Return no key: whoever treats nothing has none. Raises KeyMissing."""
    raise KeyMissing(f"expected the key {name!r} of stream.personal, got no keys at all")


class Secret:
    """A key that is read when it is used for the first time. Safe for use by several threads."""

    def __init__(self, name: str, keys: Keys) -> None:
        self._name = name
        self._keys = keys

    def derived(self, purpose: bytes) -> bytes:
        """Return 64 bytes for a purpose (at most 16 bytes), which tell nothing of the key or of those for another.

        Raises KeyMissing for a key that is too short, and whatever `keys` raises.
        """
        return hashlib.blake2b(self._bytes, digest_size=64, person=purpose).digest()

    def require(self) -> None:
        """Read the key unless that is done. Raises as `derived` does."""
        self.derived(b"")

    @cached_property
    def _bytes(self) -> bytes:
        found = self._keys(self._name).strip()
        if len(found) < LEAST_BYTES:
            raise KeyMissing(f"the key {self._name!r}: expected at least {LEAST_BYTES} bytes, got {len(found)}")
        return found
