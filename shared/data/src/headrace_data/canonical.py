"""Canonical JSON and digests: equal values have equal bytes, and equal bytes an equal name."""

from __future__ import annotations

import hashlib

import orjson


def canonical(value: object) -> bytes:
    """Return a value as canonical JSON: sorted keys, no white space, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def sha256_digest(data: bytes) -> str:
    """Return ``sha256:`` and 64 lower-case hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
