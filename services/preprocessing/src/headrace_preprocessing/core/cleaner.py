"""Cleans the rows of one pipeline, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from headrace_data.cleaning import Cleaned, SeenKeys, clean, keys_of
from headrace_data.spec import Pipeline


class Cleaner:
    """Applies the cleaning rules, with the keys that each partition has seen.

    The state of a partition is a function of its clean topic: the last accepted keys, in order. So it can be restored
    from there at any time, and a duplicate is one whichever instance looks.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._seen: dict[int, SeenKeys] = {}

    @property
    def window(self) -> int:
        """How many accepted keys a partition remembers; 0 when the pipeline keeps duplicates or has no key."""
        rules = self.pipeline.prepare.clean
        return rules.duplicate_window if rules.duplicates == "drop" and self.pipeline.stream.key_field else 0

    def restore(self, partition: int, accepted: Iterable[pa.RecordBatch]) -> None:
        """Forget a partition's keys and remember those of these accepted rows, oldest first."""
        seen = SeenKeys(self.pipeline.prepare.clean.duplicate_window)
        for rows in accepted:
            seen.remember(keys_of(rows, self.pipeline))
        self._seen[partition] = seen

    def clean(self, partition: int, rows: pa.RecordBatch) -> Cleaned:
        """Return the rows that pass the rules, and why the others do not."""
        return clean(rows, self.pipeline, self._seen[partition])
