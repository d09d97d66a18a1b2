"""Cleans the rows of one pipeline, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from headrace_data.cleaning import Cleaned, clean_all
from headrace_data.forgotten import Now, nothing_forgotten
from headrace_data.key_digests import Digests
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Pipeline


@dataclass(slots=True)
class _Partition:
    seen: SeenKeys
    end: int
    """The offset in the clean topic up to which the keys are those of its rows."""


class Cleaner:
    """Applies the cleaning rules, with the keys that each partition has seen.

    The state of a partition is a function of its clean topic: the last accepted keys, in order. So it can be restored
    from there at any time, and a duplicate is one whichever instance looks. What a partition has seen is kept when it
    moves to another instance: should it come back, only the keys that were accepted meanwhile are missing.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.forgotten: Now = nothing_forgotten
        """Tells which keys are forgotten: letters tell nothing of what their rows hold."""
        self._partitions: dict[int, _Partition] = {}

    @property
    def window(self) -> int:
        """How many accepted keys a partition remembers; 0 when the pipeline keeps duplicates or has no key.

        Neither does it remember any where the window is a time: the freezer compares the keys then.
        """
        rules = self.pipeline.prepare.clean
        return rules.remembered if self.pipeline.stream.key_field else 0

    def known(self, partition: int) -> int | None:
        """Return the offset in the clean topic up to which a partition's keys are known, None when none are."""
        known = self._partitions.get(partition)
        return known.end if known else None

    def restore(self, partition: int, accepted: Iterable[Digests], end: int, *, anew: bool = True) -> None:
        """Remember accepted keys up to an offset of the clean topic, oldest first.

        They are all, or when not `anew` those behind the known ones. What was not committed is forgotten.
        """
        known = None if anew else self._partitions.get(partition)
        seen = known.seen if known else SeenKeys(self.window or 1)
        seen.rollback()
        for digests in accepted:
            seen.remember(digests)
        self._partitions[partition] = _Partition(seen, end)

    def clean(self, partition: int, batches: Sequence[pa.RecordBatch]) -> list[Cleaned]:
        """Return the rows of each batch that pass the rules, and why the others do not; the first batch comes first."""
        return clean_all(batches, self.pipeline, self._partitions[partition].seen)

    def commit(self, partition: int, end: int) -> None:
        """Take note that what was cleaned of a partition is committed, up to an offset of the clean topic."""
        if known := self._partitions.get(partition):
            known.seen.commit()
            known.end = end
