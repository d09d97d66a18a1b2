"""Backfills on a real broker: what comes in before all that there is, once, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1 import dataset_pb2, segment_pb2
from headrace_runtime.kafka import Admin
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.stream.dead_letters import read_letter
from headrace_runtime.topics import DATASET_REQUESTED
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

pytestmark = [pytest.mark.contract, pytest.mark.timeout(600)]

Lanes = Callable[..., Any]
Start = Callable[..., Any]
Until = Callable[..., None]
DAY = datetime(2026, 1, 1, tzinfo=UTC)
LATELY = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
"""So that the broker keeps what is of then."""
ROWS = 4_000


def sound(start: int, stop: int) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": [0.5, key % 7 / 7], "depth": 1.0, "digit": key % 3, "at": 1_767_225_600 + key}
        for key in range(start, stop)
    ]


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(record).encode() for record in records)


def table(records: list[dict[str, Any]]) -> bytes:
    cells = [
        [json.dumps(value) if isinstance(value, list) else str(value) for value in row.values()] for row in records
    ]
    quoted = ["\t".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in cells]
    return "\n".join(["\t".join(records[0]), *quoted]).encode()


def keys(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(row["key"] for row in rows)


def test_files_come_before_all_that_was_cut_and_a_repeat_adds_nothing(lanes: Lanes, start: Start, until: Until) -> None:
    lane = lanes("{afterRecords: 40}")
    lane.prepare("window", "all")
    lane.apply()
    start()
    lane.send((0, sound(1000, 1040)))
    until(lane.frozen)
    bad = {"outOfRange": {**sound(7, 8)[0], "digit": 12}, "duplicates": sound(3, 4)[0], "type": {"key": "?"}}
    old = lane.file("old.jsonl", lines([*sound(0, 100), *bad.values()]))
    older = lane.file("older.csv", table(sound(100, 160)))
    lane.backfill("first", files=[old, older], time="at")
    # What is asked for after a backfill is answered after it, also where it is not read again.
    lane.request("second")
    lane.backfill("third", files=[older, old], time="at")
    until(lambda: len(lane.frozen()) == 3)

    cut, first, third = lane.frozen()
    assert [(cut.request_id, third.request_id), lane.failed()] == [
        ("", "third"),
        [("second", "no clean record since the last dataset")],
    ]
    assert keys(lane.dataset_rows(first)) == [*range(160), *range(1000, 1040)]
    told = first.backfilled
    assert (told.rows, dict(told.rejected), told.known) == (160, dict.fromkeys(bad, 1), 0)
    assert told.faults[0].startswith("old.jsonl row 100: digit: expected 0 to 9, got 12")
    assert (third.backfilled.rows, third.backfilled.known, dict(third.backfilled.rejected)) == (0, 160, {})
    assert third.dataset_id == first.dataset_id != cut.dataset_id
    history = lane.history()
    assert [entry.source.name if entry.source else "cut" for entry in history.entries] == [
        "old.jsonl",
        "older.csv",
        "cut",
    ]
    assert [source.name for source in lane.manifest(first).provenance.backfilled] == ["old.jsonl", "older.csv"]
    assert [(each.partition, each.start, each.end) for each in first.sources] == [(0, 0, 40)]
    assert {row["_time"] for row in lane.dataset_rows(first) if row["key"] == 5} == {DAY + timedelta(seconds=5)}

    letters = [read_letter(record).letter for record in lane.dead()]
    places = {letter.rule: (letter.stage, letter.topic, letter.partition, letter.offset) for letter in letters}
    assert places == {rule: ("backfill", "old.jsonl", 0, 100 + row) for row, rule in enumerate(bad)}
    assert [json.loads(letter.value or b"") for letter in letters] == list(bad.values())


def test_what_the_window_does_not_take_waits_for_one_that_does(lanes: Lanes, start: Start, until: Until) -> None:
    lane = lanes("{afterRecords: 40}")
    lane.apply()
    start()
    lane.backfill("early", files=[lane.file("a.jsonl", lines(sound(0, 60)))])
    until(lane.failed)
    ((request, reason),) = lane.failed()
    assert request == "early"
    assert reason.startswith("the backfill is done: 60 rows are new, 0 were there. No dataset came of it: window new")
    lane.send((0, sound(1000, 1040)))
    until(lane.frozen)
    lane.backfill("late", files=[lane.file("b.jsonl", lines(sound(60, 90)))])
    until(lambda: len(lane.frozen()) == 2)
    assert lane.frozen()[0].dataset_id == lane.frozen()[1].dataset_id
    assert lane.frozen()[1].backfilled.rows == 30
    lane.prepare("window", "all")
    lane.apply()
    until(lambda: len(lane.frozen()) == 3)
    assert keys(lane.dataset_rows(lane.frozen()[2])) == [*range(90), *range(1000, 1040)]


def test_what_cannot_be_taken_in_changes_nothing_and_is_named(lanes: Lanes, start: Start, until: Until) -> None:
    lane = lanes()
    lane.prepare("window", "{last: 1d}")
    lane.apply()
    start()
    whole = lane.file("a.jsonl", lines(sound(0, 60)))
    gone = lane.file("gone.csv", b"never kept")
    gone.artifact.digest = "sha256:" + "0" * 64
    lane.backfill("no time", files=[whole])
    lane.backfill("no file", files=[whole, gone], time="at")
    lane.backfill("no parquet", files=[whole, lane.file("b.parquet", lines(sound(0, 50)))], time="at")
    lane.backfill("no row", files=[lane.file("c.jsonl", b'{"key": 1}\n')], time="at")
    lane.backfill("no topic", topic={"topic": f"{lane.name}-none"})
    until(lambda: len(lane.failed()) == 5)
    reasons = dict(lane.failed())
    assert "expected the name of the column with the event time" in reasons["no time"]
    assert f"gone.csv: artifact {gone.artifact.digest}" in reasons["no file"]
    assert "b.parquet: expected parquet, got what cannot be read as that" in reasons["no parquet"]
    assert "got none among 1: c.jsonl row 0: value: expected a value, got none" in reasons["no row"]
    assert f"topic {lane.name}-none does not exist" in reasons["no topic"]
    assert all(reason.startswith("the backfill changed nothing: ") for reason in reasons.values())
    assert not lane.frozen()
    assert not lane.dead()
    lane.backfill("sound", files=[whole], time="at")
    until(lane.frozen)
    assert keys(lane.dataset_rows(lane.frozen()[0])) == list(range(60))


def stamp(second: int) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(LATELY + timedelta(seconds=second))
    return found


def test_a_topic_is_taken_in_between_two_moments_and_only_what_is_missing(
    lanes: Lanes, start: Start, until: Until
) -> None:
    lane = lanes()
    lane.prepare("window", "all")
    lane.apply()
    topic = f"{lane.name}-before"
    with Admin(lane.settings, "test") as admin:
        admin.ensure_topic(topic, 2)
    fill(lane, topic)
    start()
    lane.backfill("middle", topic={"topic": topic, "start_time": stamp(50), "end_time": stamp(150)})
    lane.backfill("all", topic={"topic": topic})
    lane.backfill("again", topic={"topic": topic})
    until(lambda: len(lane.frozen()) == 3)
    middle, whole, again = lane.frozen()
    assert keys(lane.dataset_rows(middle)) == list(range(50, 150))
    assert (middle.backfilled.rows, dict(middle.backfilled.rejected)) == (100, {})
    assert keys(lane.dataset_rows(whole)) == list(range(200))
    assert (whole.backfilled.rows, whole.backfilled.known, dict(whole.backfilled.rejected)) == (100, 100, {"type": 1})
    assert (again.backfilled.rows, again.backfilled.known, again.dataset_id) == (0, 200, whole.dataset_id)
    (letter,) = (read_letter(record).letter for record in lane.dead())
    assert (letter.topic, letter.partition, letter.offset, letter.rule) == (topic, 1, 100, "type")
    assert {row["_time"] for row in lane.dataset_rows(whole) if row["key"] == 70} == {LATELY + timedelta(seconds=70)}


def fill(lane: Any, topic: str) -> None:
    """Write 200 sound records to two partitions, each with its key's second of the day, and one that is none."""
    producer = KafkaProducer(**lane.settings.kafka_client(), acks="all")
    for record in [*sound(0, 200), {**sound(201, 202)[0], "digit": "?"}]:
        key = record["key"]
        producer.send(
            topic, json.dumps(record).encode(), partition=key % 2, timestamp_ms=round(LATELY.timestamp() + key) * 1_000
        )
    producer.flush()
    producer.close()


def test_a_backfill_that_is_killed_is_done_once_and_the_same(lanes: Lanes, start: Start, until: Until) -> None:
    files = {
        "a.jsonl": lines([*sound(0, ROWS), {"key": -1}]),
        "b.csv": table(sound(ROWS, ROWS + 50)),
    }
    whole, killed = lanes(), lanes()
    for lane in (whole, killed):
        lane.prepare("window", "all")
        lane.apply()
    child = start()
    whole.backfill("whole", files=[whole.file(name, data) for name, data in files.items()], time="at")
    until(whole.frozen)
    child.arm("backfill")
    killed.backfill("killed", files=[killed.file(name, data) for name, data in files.items()], time="at")
    killed.request("after")
    for point, later in (("backfill", "manifest"), ("manifest", "transaction"), ("transaction", None)):
        child.wait_held(point)
        child.kill()
        assert not killed.frozen()
        if later:
            child.arm(later)
        child = start()
    until(lambda: killed.frozen() and killed.failed())
    (there,), (fact,) = whole.frozen(), killed.frozen()
    assert [entry.segment_id for entry in killed.history().entries] == [
        entry.segment_id for entry in whole.history().entries
    ]
    assert fact.dataset_id == there.dataset_id
    assert fact.backfilled == there.backfilled
    assert (fact.backfilled.rows, fact.backfilled.known) == (ROWS + 50, 0)
    assert killed.failed() == [("after", "no clean record since the last dataset")]
    assert len(killed.dead()) == 1


def test_a_backfill_that_ends_each_process_is_given_up(lanes: Lanes, start: Start, until: Until) -> None:
    lane = lanes()
    lane.prepare("window", "all")
    lane.apply()
    lane.backfill("deadly", files=[lane.file("a.jsonl", lines(sound(0, 60)))])
    (place,) = [
        record
        for record in lane.read(DATASET_REQUESTED.name)
        if decode(record, dataset_pb2.DatasetRequested).pipeline == lane.name
    ]
    # As the fifth process left it, which read the file.
    consumer = KafkaConsumer(group_id=f"freeze.{lane.name}", **lane.settings.kafka_client())
    where = TopicPartition(*place.place)
    consumer.commit({where: OffsetAndMetadata(place.offset, "begun 5", -1)})
    consumer.close(autocommit=False)
    start()
    until(lane.failed)
    assert lane.failed() == [
        ("deadly", "the backfill changed nothing: it was begun 5 times, and each process ended meanwhile")
    ]
    lane.backfill("sound", files=[lane.file("a.jsonl", lines(sound(0, 60)))])
    until(lane.frozen)
    assert keys(lane.dataset_rows(lane.frozen()[0])) == list(range(60))


def test_segments_are_made_again_by_a_looser_rule(lanes: Lanes, start: Start, until: Until) -> None:
    lane = lanes("{afterRecords: 40}\n  window: all")
    wide = lane.pipeline
    lane.narrow("digit", "[0, 9]", "[0, 1]")
    lane.apply()
    start()
    records = sound(0, 60)
    with KafkaProducer(**lane.settings.kafka_client()) as producer:
        for record in records:
            producer.send(lane.name, json.dumps(record).encode(), partition=0)
    lane.send((0, records))
    until(lane.frozen)
    lane.pipeline = wide
    lane.apply()
    until(lambda: len(lane.frozen()) == 2)
    lane.backfill("again", topic={"topic": lane.name}, rebuild=True)
    until(lambda: len(lane.frozen()) == 3)

    before, _, after = lane.frozen()
    assert {row["digit"] for row in lane.dataset_rows(before)} == {0, 1}
    assert keys(lane.dataset_rows(after)) == list(range(60))
    assert (after.backfilled.rows, after.backfilled.known) == (60, 0)
    assert [entry.rows for entry in lane.history().entries] == [60]
    assert [(each.partition, each.start, each.end) for each in after.sources] == [(0, 0, 60)]
    assert len(lane.dead()) == 20
    lane.backfill("once more", topic={"topic": lane.name}, rebuild=True)
    until(lambda: len(lane.frozen()) == 4)
    assert lane.frozen()[3].dataset_id == after.dataset_id
    assert (lane.frozen()[3].backfilled.rows, lane.frozen()[3].backfilled.known) == (0, 60)


def objects(lane: Any) -> set[str]:
    """Return the names of all files of the store."""
    return {path.name for path in Path(lane.settings.store_url).rglob("*") if path.is_file()}


def named(lane: Any) -> set[str]:
    """Return the names of the files that the newest history and dataset need."""
    history, frozen = lane.history(), lane.frozen()[-1]
    parts = [part.digest for each in lane.manifest(frozen).slices for part in each.parts]
    kept = [ref.digest for entry in history.entries for ref in (entry.manifest, entry.sketch)]
    newest = lane.facts(segment_pb2.SegmentCut)[-1].history.digest
    return {digest.removeprefix("sha256:") for digest in (*parts, *kept, newest, frozen.manifest.digest)}


def test_a_rebuild_that_is_killed_is_done_by_another_and_the_same(lanes: Lanes, start: Start, until: Until) -> None:
    whole, killed = lanes("{afterRecords: 40}\n  window: all"), lanes("{afterRecords: 40}\n  window: all")
    records, child = sound(0, 120), start()
    for lane in (whole, killed):
        wide = lane.pipeline
        lane.narrow("digit", "[0, 9]", "[0, 1]")
        lane.apply()
        with KafkaProducer(**lane.settings.kafka_client()) as producer:
            for record in records:
                producer.send(lane.name, json.dumps(record).encode(), partition=0)
        for cut in (1, 2):
            lane.send((0, records[60 * (cut - 1) : 60 * cut]))
            until(lambda lane=lane, cut=cut: len(lane.frozen()) == cut)
        lane.pipeline = wide
        lane.apply()
        until(lambda lane=lane: len(lane.frozen()) == 3)
    whole.backfill("again", topic={"topic": whole.name}, rebuild=True)
    until(lambda: len(whole.frozen()) == 4)
    before = objects(whole)

    child.arm("read")
    killed.backfill("again", topic={"topic": killed.name}, rebuild=True)
    child.wait_held("read")
    # One segment is made again, and the other one is not.
    child.arm("read")
    child.let_go("read")
    child.wait_held("read")
    assert objects(killed) > before
    child.kill()
    child.arm("transaction")
    child = start(instance="1")
    child.wait_held("transaction")
    child.kill()
    assert len(killed.frozen()) == 3
    start(instance="2")
    until(lambda: len(killed.frozen()) == 4)

    there, fact = whole.frozen()[3], killed.frozen()[3]
    assert [(each.segment_id, each.rows) for each in killed.history().entries] == [
        (each.segment_id, each.rows) for each in whole.history().entries
    ]
    assert [each.rows for each in killed.history().entries] == [60, 60]
    assert (fact.dataset_id, fact.backfilled, fact.request_id) == (there.dataset_id, there.backfilled, "again")
    assert (fact.backfilled.rows, fact.backfilled.known) == (120, 0)
    assert keys(killed.dataset_rows(fact)) == list(range(120))
    assert (killed.failed(), len(killed.dead())) == ([], len(whole.dead()))
    assert objects(killed) - before <= named(killed)
