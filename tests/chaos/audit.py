"""What became of every record: read from the topics with read_committed, and compared by origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from headrace.events.v1 import record_pb2
from headrace_data.batches import from_ipc, lineage
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.record_topics import clean_topic, dead_topic
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from reading import read
from records import PIPELINE, POISON_KEY, RULE_HEADER

SHOWN = 5
"""How many differences of a kind are told."""

Origins = npt.NDArray[np.int64]
"""Places in the producers' topic: partition * 2**48 + offset, int64 [records]."""


@dataclass(slots=True)
class Verdict:
    """The outcome of an audit."""

    records: int = 0
    clean: Origins = field(default_factory=lambda: np.empty(0, np.int64))
    """Where the rows that were kept come from."""
    dead: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    """What is wrong; empty when every record is where it belongs, once."""


def audit(settings: KafkaSettings, sent: int) -> Verdict:
    """Compare what the producers sent with what was kept and what was rejected."""
    expected = {origin(record): record.header(RULE_HEADER) or "" for record in read(settings, PIPELINE)}
    clean, ids, ranges = _clean(settings)
    dead = [
        (place(int(record.header("dead-partition") or -1), int(record.header("dead-offset") or -1)), record)
        for record in read(settings, dead_topic(PIPELINE))
        if record.key != POISON_KEY
    ]
    verdict = Verdict(len(expected), clean, len(dead))
    verdict.rules.update(str(record.header("dead-rule")) for _, record in dead)
    if len(expected) != sent:
        verdict.differences.append(f"producers' topic: expected {sent} messages, found {len(expected)}")
    found = np.concatenate([clean, np.array([where for where, _ in dead], np.int64)])
    everything = np.array(sorted(expected), np.int64)
    verdict.differences += tell("lost", np.setdiff1d(everything, found))
    verdict.differences += tell("from nowhere", np.setdiff1d(found, everything))
    verdict.differences += tell("more than once", repeated(found))
    verdict.differences += tell(
        "bad but kept", np.array([where for where in clean.tolist() if expected.get(where)], np.int64)
    )
    if len(twice := repeated(ids)):
        verdict.differences.append(f"ids kept twice: {len(twice)}, such as {twice[:SHOWN].tolist()}")
    wrong = [(where, record) for where, record in dead if expected.get(where) != record.header("dead-rule")]
    verdict.differences += [
        f"{_named(where)}: expected rule {expected.get(where)!r}, rejected for {record.header('dead-rule')!r}"
        for where, record in wrong[:SHOWN]
    ]
    verdict.differences += _gaps(ranges)
    return verdict


def place(partition: int, offset: int) -> int:
    """Return one origin as a number."""
    return (partition << 48) + offset


def origins_of(rows: pa.RecordBatch) -> Origins:
    """Return where rows come from."""
    partitions, offsets, _ = lineage(rows)
    return (partitions.astype(np.int64) << 48) + offsets


def origin(record: Record) -> int:
    """Return where a record lies."""
    return place(record.partition, record.offset)


def _named(where: int) -> str:
    return f"{PIPELINE}:{where >> 48}:{where & ((1 << 48) - 1)}"


def _clean(settings: KafkaSettings) -> tuple[Origins, npt.NDArray[np.int64], list[record_pb2.SourceRange]]:
    """Return origins and ids of the rows that were kept, and the ranges that their batches account for."""
    origins, ids = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    ranges: list[record_pb2.SourceRange] = []
    for record in read(settings, clean_topic(PIPELINE)):
        if record.key == POISON_KEY:
            continue
        message = decode(record, record_pb2.RecordBatch)
        rows = from_ipc(message.arrow)
        origins.append(origins_of(rows))
        ids.append(rows.column("id").to_numpy(zero_copy_only=False))
        ranges += message.sources
    return np.concatenate(origins), np.concatenate(ids), ranges


def repeated(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the values that occur more than once."""
    found, times = np.unique(values, return_counts=True)
    return np.asarray(found[times > 1])


def tell(what: str, origins: Origins) -> list[str]:
    """Return the difference that some records make; none when there are none."""
    if not len(origins):
        return []
    return [f"{what}: {len(origins)} records, such as {', '.join(_named(where) for where in origins[:SHOWN].tolist())}"]


def _gaps(ranges: Sequence[record_pb2.SourceRange]) -> list[str]:
    """Return where the ranges that clean batches account for do not meet."""
    differences: list[str] = []
    ends: dict[int, int] = {}
    for item in sorted(ranges, key=lambda item: (item.partition, item.start, item.end)):
        due = ends.get(item.partition, 0)
        if item.start != due:
            differences.append(f"clean ranges of partition {item.partition}: expected {due} next, found {item.start}")
        ends[item.partition] = item.end
    return differences[:SHOWN]
