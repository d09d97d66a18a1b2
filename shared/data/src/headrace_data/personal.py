"""Personal data in the texts of rows: masked, or the rows rejected, as the pipeline's cleaning says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from headrace_data.detectors import PERSONAL, hinted_rows, masked_column
from headrace_data.records import Rejection
from headrace_data.spec import Personal

RULE: Final = "personal"
"""The rule of rows that are rejected."""


def rejections(batch: pa.RecordBatch, policy: Personal | None) -> Iterator[Rejection]:
    """Yield the rows with something in their texts that the policy rejects. The reason tells nothing of the text."""
    for field in _looked_at(batch, policy):
        for name in policy.kinds("reject") if policy else ():
            texts = batch.column(field)
            for row in hinted_rows(texts, PERSONAL[name]):
                if next(PERSONAL[name].spans(texts[row].as_py()), None):
                    yield Rejection(row, RULE, field, f"{field}: expected no personal data of kind {name}, got some")


def masked(batch: pa.RecordBatch, policy: Personal | None) -> tuple[pa.RecordBatch, Counter[str]]:
    """Return rows with placeholders where the policy masks, and how many there are by kind.

    Columns that a batch does not have are not looked for.
    """
    counts: Counter[str] = Counter()
    kinds = set(policy.kinds("mask")) if policy else set[str]()
    for field in _looked_at(batch, policy) if kinds else ():
        before = texts = batch.column(field)
        for name in (name for name in PERSONAL if name in kinds):
            texts, count = masked_column(texts, name)
            counts[name] += count
        if texts is not before:
            batch = batch.set_column(batch.schema.get_field_index(field), batch.schema.field(field), texts)
    return batch, +counts


def _looked_at(batch: pa.RecordBatch, policy: Personal | None) -> list[str]:
    return [name for name in policy.fields if name in batch.schema.names] if policy and len(batch) else []
