"""The key and the value of a hot prediction."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from xxhash import xxh3_64_digest, xxh3_128

from headrace_inference.core.tensors import BYTES, Array, encode_raw

PREFIX = b"hr:p:"
_CHECKSUM_BYTES = 8


def cache_key(graph_digest: str, arrays: Mapping[str, Array], outputs: Sequence[str]) -> bytes:
    """Return the key of an answer: 128 bits over everything that decides it.

    Those are the graph's digest, each input's name, type, shape and little-endian bytes in the order of names, and the
    outputs in the order asked for. Every part is preceded by its length, so that different calls never give equal bytes
    to the hash. Typed and raw forms of the same input give the same key, and so do all forms of NaN: `Signature.arrays`
    makes them one.
    """
    key = xxh3_128(_with_length(graph_digest.encode()))
    for name in sorted(arrays):
        array = arrays[name]
        content = memoryview(encode_raw(array, BYTES) if array.dtype == object else array)  # type: ignore[arg-type]
        shape = array.shape
        key.update(_with_length(name.encode()) + _with_length(array.dtype.str.encode()))
        key.update(struct.pack(f"<{len(shape) + 2}Q", len(shape), *shape, content.nbytes))
        key.update(content)
    for name in outputs:
        key.update(_with_length(name.encode()))
    return PREFIX + key.hexdigest().encode()


def seal(key: bytes, payload: bytes) -> bytes:
    """Return a payload behind a checksum (64-bit XXH3) of it and of its key.

    So a whole value that came under a wrong key, for example because answers of the cache were mixed up, is none.
    """
    return xxh3_64_digest(key + payload) + payload


def unseal(key: bytes, value: bytes) -> bytes | None:
    """Return the payload of a value that was sealed for the key, or None when it does not match its checksum."""
    payload = value[_CHECKSUM_BYTES:]
    return payload if xxh3_64_digest(key + payload) == value[:_CHECKSUM_BYTES] else None


def _with_length(part: bytes) -> bytes:
    return struct.pack("<I", len(part)) + part
