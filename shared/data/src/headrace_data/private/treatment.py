"""What a treatment of a personal field does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import pyarrow as pa

NOTHING_FOUND: Final[Mapping[str, int]] = {}


class Treatment(Protocol):
    """Makes of the texts of a field what is stored of them."""

    def treated(self, texts: pa.Array) -> tuple[pa.Array, Mapping[str, int]]:
        """Return what is stored in the place of each text, and what was found in them, by kind. Null stays null.

        Raises KeyMissing, or whatever reads the key raises.
        """


def each_once(texts: pa.Array, change: Callable[[str], str]) -> pa.Array:
    """Return texts that are changed, each different one once; null stays null."""
    encoded = texts.dictionary_encode()
    changed = pa.array([change(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, changed).cast(pa.string())
