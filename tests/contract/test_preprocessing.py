"""Preprocessing killed, stopped and doubled, on a real broker: each record once, each dataset by one instance."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from headrace.events.v1 import dataset_pb2
from headrace_runtime.kafka import GroupConsumer
from headrace_runtime.record_topics import clean_topic
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

if TYPE_CHECKING:
    from headrace_preprocessing.settings import Settings

pytestmark = [pytest.mark.contract, pytest.mark.timeout(600)]

Lanes = Callable[..., Any]
Until = Callable[..., None]
PARTITIONS = 3
WAVE = 8
"""Raw batches of each partition in a wave."""
BATCH = 25


def members(settings: Settings, group: str) -> int:
    admin = KafkaAdminClient(**settings.kafka_client())
    try:
        return len(admin.describe_groups([group])[group]["members"])
    finally:
        admin.close()


class Story:
    """Raw batches with faults in them, and what must become of each record."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)
        self._accepted: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        self._next: Counter[int] = Counter()
        self.rows: dict[int, list[tuple[int, int]]] = {partition: [] for partition in range(PARTITIONS)}
        """Offset and key of every clean row, by partition."""
        self.dead: dict[tuple[int, int], str] = {}
        """Rule that a record breaks, by partition and offset."""
        self.unreadable: Counter[str] = Counter()
        """Records that ingestion has rejected already, by rule."""

    def wave(self) -> list[tuple[int, list[dict[str, Any]]]]:
        return [(partition, self._batch(partition)) for _ in range(WAVE) for partition in range(PARTITIONS)]

    def _batch(self, partition: int) -> list[dict[str, Any]]:
        return [self._record(partition) for _ in range(BATCH)]

    def _record(self, partition: int) -> dict[str, Any]:
        offset, accepted = self._next[partition], self._accepted[partition]
        self._next[partition] += 1
        rule = self._dice.choices(["", "missing", "outOfRange", "duplicates", "type"], [80, 5, 5, 7, 3])[0]
        record: dict[str, Any] = {
            "key": PARTITIONS * offset + partition,
            "value": [0.25, 0.75],
            "depth": 2.5,
            "digit": offset % 4,
        }
        if rule == "duplicates" and accepted:
            record["key"] = self._dice.choice(accepted)
        elif rule == "missing":
            record["depth"] = None
        elif rule == "outOfRange":
            record["value"] = [0.25, -3.0]
        elif rule == "type":
            record["digit"] = "four"
            self.unreadable[rule] += 1
            return record
        else:
            accepted.append(record["key"])
            self.rows[partition].append((offset, record["key"]))
            return record
        self.dead[partition, offset] = rule
        return record

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(self.dead.values()) + self.unreadable)

    @property
    def size(self) -> int:
        return sum(map(len, self.rows.values()))


def test_every_row_comes_out_once_however_often_the_service_is_killed(
    lanes: Lanes, start: Callable[..., Any], until: Until
) -> None:
    lane, story = lanes(), Story(seed=7)
    lane.apply()
    lane.send(*story.wave())
    child = start(poll_batches="2")
    for point in ("commit", "transaction"):
        # Killed after it wrote, and then before it could; both times within an open transaction.
        child.arm(point)
        lane.send(*story.wave())
        child.wait_held(point)
        before = len(lane.rows())
        assert before < story.size
        child.kill()
        assert len(lane.rows()) == before
        child = start(poll_batches="2")
    lane.send(*story.wave())
    until(lambda: len(lane.clean()) > 2 * PARTITIONS * WAVE)
    child.kill()

    # What comes now repeats keys that only the clean topic remembers.
    lane.send(*story.wave())
    start()
    until(lambda: len(lane.rows()) >= story.size and len(lane.dead()) >= len(story.dead))
    clean, rows = lane.clean(), lane.rows()
    by_partition = {
        partition: [(row["_offset"], row["key"]) for row in rows if row["_partition"] == partition]
        for partition in range(PARTITIONS)
    }
    assert by_partition == story.rows
    origins = [(int(letter.header("dead-partition")), int(letter.header("dead-offset"))) for letter in lane.dead()]
    assert len(origins) == len(set(origins))
    rules = [letter.header("dead-rule") for letter in lane.dead()]
    assert dict(zip(origins, rules, strict=True)) == story.dead
    assert min(Counter(rules).values()) > 10

    counted = sum((Counter(batch.rejected) for _, batch in clean), Counter())
    assert counted == story.counts
    for partition in range(PARTITIONS):
        sources = [
            (source.start, source.end)
            for record, batch in clean
            if record.partition == partition
            for source in batch.sources
        ]
        assert sources == [(start, start + BATCH) for start in range(0, 5 * WAVE * BATCH, BATCH)]
    until(lambda: lane.facts(dataset_pb2.DatasetProgressed)[-1].rows == story.size)
    assert lane.facts(dataset_pb2.DatasetProgressed)[-1].rejected == story.counts


def test_rows_of_a_spec_that_was_applied_a_moment_ago_wait_for_it(
    lanes: Lanes, start: Callable[..., Any], until: Until
) -> None:
    lane = lanes()
    lane.apply()
    lane.send((0, rows(0, 5)))
    child = start()
    until(lambda: len(lane.rows()) == 5)
    for wave, rule in enumerate(("keep", "drop", "keep"), 1):
        # The service finds both at once: a new spec, and rows that were checked against it.
        child.signal(signal.SIGSTOP)
        lane.change(outOfRange=rule)
        lane.apply()
        lane.send((0, [row | {"value": [0.5, 7.0]} for row in rows(10 * wave, 5)]))
        child.signal(signal.SIGCONT)
        until(lambda wave=wave: len(lane.clean()) == 1 + wave)
    assert [batch.rows for _, batch in lane.clean()] == [5, 5, 0, 5]
    assert [batch.spec_digest for _, batch in lane.clean()][1] == lane.pipeline.digest
    assert len(lane.dead()) == 5


def test_of_two_instances_one_freezes_and_the_other_takes_over(
    lanes: Lanes, start: Callable[..., Any], until: Until
) -> None:
    lane = lanes("{afterRecords: 60}")
    groups = [f"freeze.{lane.name}", f"preprocessing.{lane.name}"]
    batches = [[(number, rows(200 * wave + 50 * number, 20)) for number in range(PARTITIONS)] for wave in range(3)]
    lane.apply()
    first = start("0")
    until(lambda: f"freeze.{lane.name}: this instance freezes" in first.log())
    second = start("1")
    until(lambda: [members(lane.settings, group) for group in groups] == [2, 2])
    lane.send(*batches[0])
    until(lane.frozen)

    # The first is stopped between the parts and the announcement, for longer than its session.
    first.arm("manifest")
    lane.send(*batches[1])
    first.wait_held("manifest")
    first.signal(signal.SIGSTOP)
    until(lambda: len(lane.frozen()) == 2)
    assert "this instance freezes" in second.log()
    second.kill()
    until(lambda: [members(lane.settings, group) for group in groups] == [0, 0])

    # It goes on where it was: what it is about to announce must not come through, and it has missed keys.
    first.let_go("manifest")
    first.signal(signal.SIGCONT)
    lane.send(*batches[1], *batches[2])
    until(lambda: len(lane.frozen()) == 3)
    frozen = lane.frozen()
    keys = [sorted(row["key"] for row in lane.dataset_rows(dataset)) for dataset in frozen]
    assert keys == [sorted(record["key"] for _, records in wave for record in records) for wave in batches]
    assert [dict(dataset.rejected) for dataset in frozen] == [{}, {}, {"duplicates": 60}]
    assert not lane.failed()
    assert first.process.poll() is None, first.log()


def test_a_partition_that_was_lost_for_a_moment_is_announced_again(lanes: Lanes, until: Until) -> None:
    lane = lanes()
    topic, group = clean_topic(lane.name), f"test.{lane.name}"
    places = {(topic, partition) for partition in range(PARTITIONS)}
    admin = KafkaAdminClient(**lane.settings.kafka_client())
    with closing(admin), closing(GroupConsumer(lane.settings, group=group, topics=[topic], instance="0")) as consumer:
        arrived: list[Any] = []
        news = consumer.arrivals()

        def arrivals() -> int:
            consumer.poll(0.05)
            arrived.extend(news.new())
            return len(arrived)

        until(lambda: arrivals() == PARTITIONS)
        # Thrown out, it joins again within one poll: nobody who only looks at the assignment notices.
        admin.remove_group_members(group, [MemberToRemove(group_instance_id=f"{group}.0")])
        until(lambda: arrivals() == 2 * PARTITIONS)
        assert set(arrived[:PARTITIONS]) == set(arrived[PARTITIONS:]) == consumer.assignment() == places


def rows(start: int, count: int) -> list[dict[str, Any]]:
    return [{"key": key, "value": [0.5, 0.5], "depth": 1.0, "digit": key % 3} for key in range(start, start + count)]
