"""Messages of one poll are cleaned together: what comes out is what comes of one message after another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from headrace.events.v1 import record_pb2
from headrace_data.batches import to_ipc
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline
from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.transport import consumer
from headrace_preprocessing.transport.consumer import handler
from headrace_runtime.errors import Unprocessable
from headrace_runtime.record_topics import clean_topic, raw_topic
from headrace_runtime.records import Outgoing, Record

PIPELINE = load_pipeline("""
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: gauges}
stream:
  topic: gauges
  schema:
    - {name: gauge, type: string, role: id}
    - {name: levels, type: float32, shape: [3], role: feature, range: [0, 10]}
    - {name: height, type: float64, role: feature, nullable: true}
    - {name: note, type: string, role: feature, nullable: true}
    - {name: open, type: bool, role: feature, nullable: true}
    - {name: state, type: int64, role: label}
prepare:
  transform: {note: {encode: ordinal}}
  clean: {duplicates: drop, duplicateWindow: 9, missing: drop, outOfRange: drop}
train:
  network: {kind: mlp, hidden: [4]}
""")
PARTITIONS = (0, 3, 4)
MADE_ANEW = {"ce_id", "ce_time"}
"""Headers that no two messages have alike."""


def cleaner() -> Cleaner:
    made = Cleaner(PIPELINE)
    for partition in PARTITIONS:
        made.restore(partition, [], 0)
    return made


def record(dice: Random) -> dict[str, Any]:
    fault = dice.choices(["", "height", "note", "open", "levels"], [12, 1, 1, 1, 1])[0]
    return {
        "gauge": f"gauge {dice.randrange(40)}",
        "levels": [dice.random(), 11.0 if fault == "levels" else 9.5, dice.random()],
        "height": None if fault == "height" else dice.choice([dice.random(), 1e200, -0.0]),
        "note": dice.choice([None, " "]) if fault == "note" else "x" * dice.randrange(1, 9),
        "open": None if fault == "open" else dice.random() < 0.5,
        "state": dice.randrange(4),
    }


def of_before(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows as they were sent while the label was narrower and nothing could be null."""
    columns = [pa.field(field.name, field.type, nullable=False) for field in rows.schema]
    arrays = list(rows.columns)
    at = rows.schema.get_field_index("state")
    columns[at], arrays[at] = pa.field("state", pa.int16(), nullable=False), arrays[at].cast(pa.int16())
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(columns))


def message(dice: Random, offset: int, partition: int, most: int = 12) -> Record:
    records = [record(dice) for _ in range(dice.choice([0, 1, most // 2, most]))]
    start = 100 * offset
    rows = RecordChecker(PIPELINE.stream).check(
        [json.dumps(each).encode() for each in records], [partition] * len(records), range(start, start + len(records))
    )
    assert not rows.rejected
    batch = of_before(rows.batch) if dice.random() < 0.2 else rows.batch
    told = record_pb2.RecordBatch(
        pipeline="gauges",
        arrow=to_ipc(batch),
        rows=len(records),
        sources=[record_pb2.SourceRange(partition=partition, start=start, end=start + 100)],
        rejected={"type": dice.randrange(1, 4)} if dice.random() < 0.3 else {},
        topic_id=f"life {dice.randrange(2)}",
        time_sources=dice.sample(record_pb2.TimeSource.values()[1:], dice.randrange(3)),
    )
    headers = (("dead-replays", b"1"),) if dice.random() < 0.3 else ()
    return Record(raw_topic("gauges"), partition, offset, None, told.SerializeToString(), headers, 1_764_374_400_000)


def poll(dice: Random, count: int = 16) -> list[Record]:
    return [message(dice, offset, dice.choice(PARTITIONS)) for offset in range(count)]


def shown(outgoing: Sequence[Outgoing]) -> list[Any]:
    """Return all that tells messages apart; of a clean one, its fields, of which the rows are bytes."""
    return [
        (
            each.topic,
            each.key,
            record_pb2.RecordBatch.FromString(each.value or b"") if each.topic == clean_topic("gauges") else each.value,
            [header for header in each.headers if header[0] not in MADE_ANEW],
            each.partition,
        )
        for each in outgoing
    ]


@pytest.mark.parametrize("most_bytes", [1, 4_000, consumer.TOGETHER_BYTES])
def test_a_poll_comes_out_as_one_message_after_another_does(monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> None:
    monkeypatch.setattr(consumer, "TOGETHER_BYTES", most_bytes)
    dice, rules = Random(11), set[str]()
    together, alone = cleaner(), cleaner()
    for number in range(12):
        records = poll(dice)
        expected = shown([each for one in records for each in handler(alone)([one])])
        assert shown(handler(together)(records)) == expected
        rules |= {rule for _, _, told, _, _ in expected if not isinstance(told, bytes) for rule in told.rejected}
        if number % 3:
            for each in (together, alone):
                for partition in PARTITIONS:
                    each.commit(partition, number)
    assert rules == {"type", "missing", "outOfRange", "duplicates"}


def test_messages_of_a_partition_are_cleaned_together_up_to_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    dice, calls = Random(5), list[tuple[int, int]]()
    clean = Cleaner.clean

    def counted(self: Cleaner, partition: int, batches: Sequence[pa.RecordBatch]) -> Any:
        calls.append((partition, len(batches)))
        return clean(self, partition, batches)

    monkeypatch.setattr(Cleaner, "clean", counted)
    records = [message(dice, offset, PARTITIONS[offset % 2]) for offset in range(16)]
    handler(cleaner())(records)
    assert calls == [(0, 8), (3, 8)]

    calls.clear()
    sizes = [len(each.value or b"") for each in records]
    monkeypatch.setattr(consumer, "TOGETHER_BYTES", sum(sizes[:5]))
    handler(cleaner())(records[:5])
    assert calls == [(0, 3), (3, 2)]
    calls.clear()
    monkeypatch.setattr(consumer, "TOGETHER_BYTES", min(sizes) - 1)
    handler(cleaner())(records)
    assert calls == [(each.partition, 1) for each in records]


def test_what_came_before_a_message_that_cannot_be_read_is_as_if_it_had_not_been_looked_at() -> None:
    dice = Random(2)
    first, last = message(dice, 0, 3), message(dice, 2, 3)
    broken = message(dice, 1, 3)._replace(value=b"\xff\xff")
    together, alone = cleaner(), cleaner()
    with pytest.raises(Unprocessable, match=f"{raw_topic('gauges')}:3:1: expected"):
        handler(together)([first, broken, last])
    together.restore(3, [], 0, anew=False)
    assert shown(handler(together)([first, last])) == shown([*handler(alone)([first]), *handler(alone)([last])])
