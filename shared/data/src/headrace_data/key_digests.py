"""Digests of record keys: 16 bytes for a key of any length, so that many keys can be remembered.

Equal keys have equal digests within one process. Different keys have different ones but for a chance of 2 ** -128 a
pair: four independent hashes of 32 bits, each of a family that is strongly universal (D. Lemire and O. Kaser, "Strongly
universal string hashing is fast", The Computer Journal 57, 2014: Multilinear). Their coefficients are drawn anew in
each process, so that nobody can look for keys that collide. So a digest means nothing outside of the process.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types

Digests = npt.NDArray[np.uint64]
"""Digests of keys, shape [keys, 2]."""
_Words = npt.NDArray[np.uint64]

_WORD: Final = 4
"""Bytes of a text that are one character of the hashes."""
_LONGEST: Final = 64
"""Bytes of the longest text that is hashed as it is; of a longer one, its BLAKE2b digest of as many bytes is."""
_A_NUMBER: Final = 2**32 - 1
_A_LONG_TEXT: Final = 2**32 - 2
"""What stands in place of the length for keys that are no short texts."""
_COEFFICIENTS: Final = np.frombuffer(secrets.token_bytes((2 + _LONGEST // _WORD) * 4 * 8), np.uint64).reshape(-1, 4)
_HIGH: Final = np.uint64(0xFFFFFFFF00000000)
_HALF: Final = np.uint64(32)
_MASKS: Final = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)
"""Which part of a word belongs to a text of which so many bytes are left."""


def key_digests(keys: pa.Array) -> Digests:
    """Return the digests of whole numbers or texts without nulls. A number and a text never have the same."""
    if pyarrow.types.is_string(keys.type):
        return _texts(keys)
    numbers = keys.cast(pa.int64()).to_numpy().view(np.uint64)
    words = np.stack([numbers & np.uint64(_A_NUMBER), numbers >> _HALF])
    return _hashed(words, np.full(len(numbers), _A_NUMBER, np.uint64))


def _texts(texts: pa.StringArray) -> Digests:
    if not len(texts):
        return np.empty((0, 2), np.uint64)
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset).astype(np.int64)
    lengths, starts = np.diff(bounds), bounds[:-1] - bounds[0]
    held = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]] if bounds[-1] > bounds[0] else b""
    padded = np.concatenate([np.frombuffer(held, np.uint8), np.zeros(_LONGEST + _WORD, np.uint8)])
    words = _words(padded, starts, np.minimum(lengths, _LONGEST))
    kinds = lengths.astype(np.uint64)
    if (long := np.flatnonzero(lengths > _LONGEST)).size:
        for row in long.tolist():
            text = padded[starts[row] : starts[row] + lengths[row]].data
            words[:, row] = np.frombuffer(hashlib.blake2b(text, digest_size=_LONGEST).digest(), "<u4")
        kinds[long] = _A_LONG_TEXT
    return _hashed(words, kinds)


def _words(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> _Words:
    """Return the bytes of each text as 32-bit words in little endian, zeros behind its end; shape [words, texts]."""
    # A word begins at every byte, so that one look-up takes four bytes of a text wherever it begins.
    everywhere = np.ndarray((len(data) - _WORD + 1,), "<u4", data, strides=(1,))
    places = np.arange(0, int(lengths.max()), _WORD)[:, np.newaxis]
    left = np.clip(lengths - places, 0, _WORD)
    words: _Words = (everywhere.take(starts + places) & _MASKS[left]).astype(np.uint64)
    return words


def _hashed(words: _Words, kinds: npt.NDArray[np.uint64]) -> Digests:
    # Word after word: numpy's product of two matrices of whole numbers is slower than these sums.
    sums = _COEFFICIENTS[0, :, np.newaxis] + kinds * _COEFFICIENTS[1, :, np.newaxis]
    for of_word, word in zip(_COEFFICIENTS[2:], words, strict=False):
        sums += word * of_word[:, np.newaxis]
    digests: Digests = np.stack([(sums[i] & _HIGH) | (sums[i + 1] >> _HALF) for i in (0, 2)], axis=1)
    return digests
