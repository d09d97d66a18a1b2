"""Files of what waits for labels, without the rows and labels of a key: no proof rests on these, so they just go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from headrace_data.awaiting import Awaiting
from headrace_data.batches import OFFSET
from headrace_data.manifest import Part, Ref
from headrace_data.parts import Blob, BlobStore, write_part

Successor = Callable[[str], Blob | None]
"""Returns what stands in the place of a file, by its digest; None where nothing does."""


def file_without(data: bytes, rows: npt.NDArray[np.bool_]) -> bytes:
    """Return a Parquet file without these rows."""
    table = pq.read_table(pa.BufferReader(data)).filter(pa.array(~rows)).combine_chunks()
    batches = table.to_batches()
    return write_part(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema))


def awaiting_without(awaiting: Awaiting, successor: Successor, store: BlobStore) -> Awaiting:
    """Return what waits with the files that stand in the places of those that lost rows."""
    parts = [_part(part, successor, store) for part in awaiting.rows]
    labels, fewer = list[Ref](), 0
    for each in awaiting.labels:
        if (blob := successor(each.digest)) is None:
            labels.append(each)
            continue
        ref, held = Ref(uri=blob.uri, digest=blob.digest, size_bytes=blob.size_bytes), _table(blob, store).num_rows
        labels += [ref] if held else []
        fewer += 1
    rows = tuple(part for part in parts if part.rows)
    count = sum(_table(each, store).num_rows for each in labels) if fewer else awaiting.label_count
    return awaiting.model_copy(update={"rows": rows, "labels": tuple(labels), "label_count": count})


def _part(part: Part, successor: Successor, store: BlobStore) -> Part:
    if (blob := successor(part.digest)) is None:
        return part
    offsets = _table(blob, store).column(OFFSET).to_pylist()
    update = {"uri": blob.uri, "digest": blob.digest, "size_bytes": blob.size_bytes, "rows": len(offsets)}
    ends = {"first_offset": offsets[0], "last_offset": offsets[-1]} if offsets else {}
    return part.model_copy(update={**update, **ends})


def _table(blob: Blob, store: BlobStore) -> pa.Table:
    return pq.read_table(pa.BufferReader(store.get(blob)))
