"""hash: the remainder of a text's hash, for texts of any number: no place is learned, and none is ever unknown.

MurmurHash3 for 32 bits (Austin Appleby, public domain), with the seed 0, of the UTF-8 text, as ONNX Runtime has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headrace_data.errors import DatasetUnusable, ManifestInvalid
from headrace_data.sketches import Side
from headrace_data.spec import Field, Transform
from headrace_data.spec.transform import MAX_INPUTS, Hash
from headrace_data.transforms.filling import text_fill
from headrace_data.transforms.texts import Codes, FittedText

Words = npt.NDArray[np.uint32]
_FIRST, _SECOND = np.uint32(0xCC9E2D51), np.uint32(0x1B873593)
_LAST: Final = ((16, np.uint32(0x85EBCA6B)), (13, np.uint32(0xC2B2AE35)))


@dataclass(frozen=True)
class FittedHash(FittedText):
    """The transform of one text, by its hash."""

    name: str
    """Name of the feature."""
    inputs: int
    """Inputs that the texts are spread over."""
    fill: str | None = None
    """Stands for a missing text, the empty one; None when none may be missing."""

    kind = "hash"

    @property
    def width(self) -> int:
        """Inputs of a network that it makes of one row."""
        return self.inputs

    def codes(self, values: Sequence[str | None] | npt.NDArray[Any]) -> Codes:
        """Return the input of each text, from 0; None and "" are missing."""
        places = {text: place for place, text in enumerate(dict.fromkeys(text or "" for text in values))}
        hashes = murmur3([text.encode() for text in places])
        if self.fill is not None:
            # That of the empty text is 0, and no other's, but for one in four thousand million.
            hashes = np.where(hashes == 0, self.fill_hash, hashes)
        found = (hashes % np.uint32(self.inputs)).astype(np.int64)
        return found[np.fromiter((places[text or ""] for text in values), dtype=np.int64, count=len(values))]

    @property
    def fill_hash(self) -> np.uint32:
        """The hash of what stands for a missing text."""
        return np.uint32(murmur3([(self.fill or "").encode()])[0])

    def knows(self, text: str) -> bool:
        """Return False: no text has a place of its own."""
        return False

    def apply(self, values: Sequence[str | None] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return 1 in the column of a text's hash and 0 in others, [rows, inputs]; texts, or their codes as int64."""
        codes = self.coded(values)
        columns = np.zeros((len(codes), self.inputs), dtype=np.float32)
        columns[np.arange(len(codes)), codes] = 1
        return columns

    def to_plain(self) -> dict[str, Any]:
        """Return the transform as JSON values."""
        plain = {"name": self.name, "encode": self.kind, "inputs": self.inputs}
        return plain if self.fill is None else plain | {"fill": self.fill}


def fit(training: Side, field: Field, transform: Transform) -> FittedHash:
    """Return the transform fitted on the training split. Raises DatasetUnusable."""
    values = training.texts[field.name]
    if values.beyond and transform.impute == "mostFrequent":
        raise DatasetUnusable(
            f"expected fewer different texts of {field.name!r} to know the most frequent one, got more than are "
            f"counted; the next one came {values.beyond}. prepare.transform.{field.name}.impute: {{constant: unknown}} "
            "needs no counts"
        )
    fill = text_fill(values, transform)
    return FittedHash(field.name, transform.told(Hash).inputs, "" if transform.impute and fill is None else fill)


def read(value: Mapping[str, Any]) -> FittedHash:
    """Return the transform of `to_plain`'s values. Raises ManifestInvalid."""
    name, inputs, fill = (value.get(key) for key in ("name", "inputs", "fill"))
    if not isinstance(name, str) or not isinstance(inputs, int) or not isinstance(fill, str | None):
        raise ManifestInvalid(f"expected a hashed text, got one that cannot be read: {name!r}")
    if not 1 < inputs <= MAX_INPUTS:
        raise ManifestInvalid(f"expected 2 to {MAX_INPUTS} inputs of {name!r}, got {inputs}")
    return FittedHash(name, inputs, fill)


def murmur3(texts: Sequence[bytes]) -> Words:
    """Return the hash of each text, [texts]: texts of as many whole words together, a word of all of them at a time."""
    hashes = np.zeros(len(texts), dtype=np.uint32)
    words = np.array([len(text) // 4 for text in texts])
    for count in np.unique(words):
        (places,) = np.nonzero(words == count)
        alike = [texts[place].ljust(4 * count + 4, b"\0") for place in places.tolist()]
        *whole, rest = np.frombuffer(b"".join(alike), "<u4").reshape(len(alike), count + 1).T
        found = np.zeros(len(alike), dtype=np.uint32)
        for word in whole:
            found = _turned(found ^ _mixed(word), 13) * np.uint32(5) + np.uint32(0xE6546B64)
        hashes[places] = found ^ _mixed(rest)
    hashes ^= np.array([len(text) for text in texts], dtype=np.uint32)
    for bits, factor in _LAST:
        hashes = (hashes ^ (hashes >> np.uint32(bits))) * factor
    return hashes ^ (hashes >> np.uint32(16))


def _mixed(words: Words) -> Words:
    return _turned(words * _FIRST, 15) * _SECOND


def _turned(words: Words, bits: int) -> Words:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
