"""A pipeline's clean topic, read by range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa
from headrace_runtime.kafka import LogReader
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings

Read = Callable[[Record], pa.RecordBatch | None]
"""Returns the rows of a message, None when there are none to be had from it."""


def rows_between(
    settings: KafkaSettings,
    pipeline: str,
    starts: Mapping[Place, int | None],
    ends: Mapping[Place, int],
    stall_s: float,
    read: Read,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a range of the clean topic, in order within each partition."""
    with LogReader(settings, f"preprocessing.{pipeline}.range") as reader:
        reader.start_at({place: starts.get(place) for place in ends})
        for records in reader.read_to(ends, stall_s):
            yield from (batch for batch in map(read, records) if batch is not None)
