"""A pipeline whose rows are of many days: their segments, histories and datasets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from headrace_data.batches import TIME, TIME_TYPE
from headrace_data.dataset import DatasetReader
from headrace_data.history import History, keep
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import Segment, SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.split import SPLITS

from .conftest import MemoryStore

SPEC = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: days}}
stream:
  topic: days
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: x, type: float32, role: feature, range: [0, {high}], nullable: true}}
    - {{name: kind, type: string, role: feature, nullable: true}}
    - {{name: y, type: int64, role: label}}
prepare:
  clean: {{missing: {missing}}}
  split: {{train: 0.6, validation: 0.2, test: 0.2, salt: {salt}}}
  transform:
    x: {{impute: median, scale: {scale}}}
    kind: {{impute: mostFrequent, encode: onehot}}
  window: {window}
train: {{network: {{kind: mlp}}}}
"""
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 60
"""Rows of a day."""
NOWHERE = Provenance(cluster_id="c", topic="days", topic_id="t", sources=(), clean_ranges=(), rejected={})


def days(window: str = "new", **choices: Any) -> Pipeline:
    return load_pipeline(
        SPEC.format(window=window, **({"high": 1000, "missing": "keep", "salt": "a", "scale": "standard"} | choices))
    )


def rows_of(pipeline: Pipeline, day: int, partitions: int = 3, *, timed: bool = True) -> pa.RecordBatch:
    """A day's rows, in turns of several partitions, one event every 24 minutes."""
    random = np.random.default_rng(day)
    values = [
        json.dumps(
            {
                "id": day * DAY + row,
                "x": None if row % 7 == 0 else float(random.integers(0, 100)),
                "kind": "abc"[row % 3],
                "y": row % 2,
            }
        ).encode()
        for row in range(DAY)
    ]
    offsets = [day * DAY + row for row in range(DAY)]
    checked = RecordChecker(pipeline.stream).check(values, [row % partitions for row in range(DAY)], offsets)
    assert checked.rejected == []
    times = [START + timedelta(days=day) + row * timedelta(minutes=24) if timed else None for row in range(DAY)]
    return checked.batch.set_column(
        checked.batch.schema.get_field_index(TIME), pa.field(TIME, TIME_TYPE), pa.array(times, TIME_TYPE)
    )


def segment_of(pipeline: Pipeline, store: MemoryStore, *batches: pa.RecordBatch) -> Segment:
    writer = SegmentWriter(pipeline, store)
    for batch in batches:
        writer.add(batch)
    return writer.finish(NOWHERE)


def history_of(pipeline: Pipeline, store: MemoryStore, count: int, *, timed: bool = True) -> History:
    history = History(pipeline=pipeline.name)
    for day in range(count):
        segment = segment_of(pipeline, store, rows_of(pipeline, day, timed=timed))
        history = history.and_cut(keep(segment, pipeline, store))
    return history


def ids(manifest: Manifest, store: MemoryStore) -> list[int]:
    reader = DatasetReader(manifest, store)
    return sorted(row for split in SPLITS for batch in reader.batches(split) for row in batch.column("id").to_pylist())
