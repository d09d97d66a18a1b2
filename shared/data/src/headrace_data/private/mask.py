"""mask: placeholders for all that is found in a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from headrace_data.detectors import PERSONAL, masked_column
from headrace_data.private.keys import Secret


class Mask:
    """Masks all kinds of personal data. Needs no key."""

    def __init__(self, _: Secret) -> None:
        pass

    def treated(self, texts: pa.Array) -> tuple[pa.Array, Mapping[str, int]]:
        """Return texts with placeholders, and how many there are by kind."""
        counts = Counter[str]()
        for kind in PERSONAL:
            texts, counts[kind] = masked_column(texts, kind)
        return texts, +counts
