"""Freezing on a real broker: when a dataset is cut, what is in it, where it comes from, and why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from headrace.events.v1 import dataset_pb2
from headrace_data.split import assign_splits
from headrace_runtime.kafka import Admin
from headrace_runtime.records import Record
from headrace_runtime.topics import PUSH_ACCEPTED
from kafka import KafkaAdminClient

from .lanes import keys, ranges, sound

if TYPE_CHECKING:
    from headrace_data.manifest import Manifest

pytestmark = [pytest.mark.contract, pytest.mark.timeout(600), pytest.mark.usefixtures("preprocessing")]

Lanes = Callable[..., Any]
Until = Callable[..., None]
NOTHING_NEW = "no clean record since the last dataset"


def origin(letter: Record) -> tuple[str | None, ...]:
    return tuple(letter.header(f"dead-{name}") for name in ("rule", "topic", "partition", "offset"))


def test_enough_records_make_a_dataset_and_the_next_one_holds_only_new_ones(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 60}")
    lane.apply()
    good = sound(0, 200)
    bad = {
        "missing": good[0] | {"key": 1000, "depth": None},
        "outOfRange": good[0] | {"key": 1001, "value": [0.5, 1.5]},
        "type": good[0] | {"key": 1002, "digit": "seven"},
    }
    lane.send((0, [*good[:20], bad["missing"], good[0]]), (1, [bad["outOfRange"], *good[20:40]]))
    until(lambda: len(lane.rows()) == 40)
    assert not lane.frozen()
    lane.send((2, [bad["type"], bad["missing"] | {"key": 1003}, *good[40:60]]))
    until(lane.frozen)

    (first,) = lane.frozen()
    manifest: Manifest = lane.manifest(first)
    rejected = {"missing": 2, "outOfRange": 1, "type": 1, "duplicates": 1}
    assert sorted(keys(lane.dataset_rows(first))) == list(range(60))
    assert (first.request_id, first.spec_digest, dict(first.rejected)) == ("", lane.pipeline.digest, rejected)
    assert ranges(first.sources) == [(0, 0, 22), (1, 0, 21), (2, 0, 22)]
    assert ranges(manifest.provenance.sources) == ranges(first.sources)
    assert manifest.provenance.rejected == rejected
    assert (manifest.provenance.cluster_id, manifest.provenance.topic) == (lane.cluster_id, lane.name)
    assert manifest.provenance.topic_id == lane.topic_id
    assert manifest.classes == (0, 1, 2)
    assert {name: split.rows for name, split in manifest.splits.items()} == {
        name: getattr(first.rows, name) for name in ("train", "validation", "test")
    }

    lane.send((0, good[60:81]), (1, [*good[81:140], bad["missing"] | {"key": 1004}]))
    until(lambda: len(lane.frozen()) == 2)
    second = lane.frozen()[1]
    assert sorted(keys(lane.dataset_rows(second))) == list(range(60, 140))
    assert ranges(second.sources) == [(0, 22, 43), (1, 21, 81)]
    assert dict(second.rejected) == {"missing": 1}
    covered = [range(start, end) for _, start, end in ranges(manifest.provenance.clean_ranges)]
    following = [range(start, end) for _, start, end in ranges(lane.manifest(second).provenance.clean_ranges)]
    places = [(record.partition, record.offset) for record, _ in lane.clean()]
    assert all((offset in covered[place]) + (offset in following[place]) == 1 for place, offset in places)
    assert [new.start for new in following] == [old.stop for old in covered]


def test_a_dataset_of_one_class_fails_and_its_rows_wait_for_more(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterIdle: 1s}")
    lane.apply()
    lane.send((1, sound(0, 60, digits=1)))
    until(lane.failed)
    assert not lane.frozen()
    lane.send((1, sound(60, 80)))
    until(lane.frozen)
    # Once for those rows, and not again and again.
    assert lane.failed() == [("", "expected at least two distinct values of label 'digit', got 1")]
    (frozen,) = lane.frozen()
    assert sorted(keys(lane.dataset_rows(frozen))) == list(range(80))
    assert ranges(frozen.sources) == [(1, 0, 80)]


def test_a_row_that_no_dataset_can_have_is_left_out_and_named(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 90}")
    lane.apply()
    lane.send((1, sound(0, 60)))
    until(lambda: len(lane.rows()) == 60)
    # As a release wrote it that took any float64: rows in the clean topic are not checked again when they are read.
    lane.send_clean(1, sound(60, 100), depth={62: 1e300, 63: -1e300})
    until(lane.frozen)

    (frozen,) = lane.frozen()
    assert not lane.failed()
    assert sorted(keys(lane.dataset_rows(frozen))) == [key for key in range(100) if key not in (62, 63)]
    assert dict(frozen.rejected) == dict(lane.manifest(frozen).provenance.rejected) == {"overflow": 2}
    letters = lane.dead()
    assert [origin(letter) for letter in letters] == [("overflow", lane.name, "1", offset) for offset in ("62", "63")]
    assert "depth: expected a value of at most 1e+250 in size" in (letters[0].header("dead-reason") or "")
    assert letters[0].key == b"62"


def test_every_request_ends_in_one_fact(lanes: Lanes, until: Until) -> None:
    lane = lanes()
    lane.request("before the start")
    lane.apply()
    until(lane.failed)
    assert lane.failed() == [("before the start", NOTHING_NEW)]

    # Everything that is clean when a request comes is in its dataset.
    lane.send(*((partition, sound(100 * partition, 100 * partition + 60)) for partition in range(3)))
    until(lambda: len(lane.rows()) == 180)
    lane.request("first", "second")
    until(lambda: lane.frozen() and len(lane.failed()) == 2)
    (frozen,) = lane.frozen()
    assert frozen.request_id == "first"
    assert sum((frozen.rows.train, frozen.rows.validation, frozen.rows.test)) == 180
    assert lane.failed()[1:] == [("second", NOTHING_NEW)]

    lane.send((0, sound(300, 360, digits=1)))
    until(lambda: len(lane.rows()) == 240)
    lane.request("third")
    until(lambda: len(lane.failed()) == 3)
    assert lane.failed()[2] == ("third", "expected at least two distinct values of label 'digit', got 1")
    assert len(lane.frozen()) == 1


def test_counts_by_rule_are_told_while_records_come(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 1000}")
    lane.apply()

    def told() -> tuple[int, int, dict[str, int]] | None:
        progress = lane.facts(dataset_pb2.DatasetProgressed)
        return (progress[-1].rows, progress[-1].rows_wanted, dict(progress[-1].rejected)) if progress else None

    lane.send((0, [*sound(0, 5), *sound(0, 2)]))
    until(lambda: told() == (5, 1000, {"duplicates": 2}))
    # News is news also when nothing passed.
    lane.send((0, sound(0, 3)), (2, [{}]))
    until(lambda: told() == (5, 1000, {"duplicates": 5, "missing": 1}))


def test_the_same_rows_in_other_batches_are_the_same_dataset(lanes: Lanes, until: Until) -> None:
    coarse, fine = lanes(), lanes()
    rows = {partition: sound(100 * partition, 100 * partition + 50) for partition in range(3)}
    coarse.send(*rows.items())
    for start in range(0, 50, 9):
        fine.send(*((partition, rows[partition][start : start + 9]) for partition in (2, 0, 1)))
    for lane in (coarse, fine):
        lane.apply()
        until(lambda lane=lane: len(lane.rows()) == 150)
        lane.request("now")
    until(lambda: coarse.frozen() and fine.frozen())
    (one,), (other,) = coarse.frozen(), fine.frozen()
    assert one.dataset_id == other.dataset_id
    digests = [
        [part.digest for part in lane.manifest(lane.frozen()[0]).splits["train"].parts] for lane in (coarse, fine)
    ]
    assert digests[0] == digests[1]


def test_pushed_rows_and_those_of_the_topic_are_one_dataset_in_order(lanes: Lanes, until: Until) -> None:
    lane = lanes()
    lane.apply()
    # Three accepting partitions, two of which share a raw partition, and batches of each in turns.
    batches = [
        (partition, sound(start, start + 12))
        for start, partition in zip(range(0, 132, 12), (-1, 0, -4, -1, 1, -2, -1, -4, 0, -2, 2), strict=True)
    ]
    lane.send(*batches[:5])
    lane.send(*batches[5:], (-1, sound(0, 1)))
    until(lambda: len(lane.rows()) == 132)
    lane.request("now")
    until(lane.frozen)

    (frozen,) = lane.frozen()
    by_partition: dict[int, list[int]] = {}
    for partition, records in batches:
        by_partition.setdefault(partition, []).extend(keys(records))
    ordered = [(partition, key) for partition in sorted(by_partition) for key in by_partition[partition]]
    splits = assign_splits(pa.array([key for _, key in ordered]), lane.pipeline.prepare.split)
    expected = [place for split in range(3) for place, side in zip(ordered, splits, strict=True) if side == split]
    rows = lane.dataset_rows(frozen)
    assert [(row["_partition"], row["key"]) for row in rows] == expected
    assert ranges(frozen.sources) == [(-4, 0, 5), (-2, 0, 5), (-1, 0, 13), (0, 0, 24), (1, 0, 12), (2, 0, 12)]
    assert {(row["_offset"], row["_index"]) for row in rows if row["_partition"] == -2} == {
        (offset, index) for offset in (0, 4) for index in range(12)
    }
    (letter,) = lane.dead()
    assert origin(letter) == ("duplicates", PUSH_ACCEPTED.name, "0", "12")


def test_keys_that_repeat_in_other_partitions_are_counted(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 180}")
    lane.apply()
    lane.send(*((partition, sound(0, 60)) for partition in range(3)))
    until(lane.frozen)
    (frozen,) = lane.frozen()
    assert (len(lane.dataset_rows(frozen)), frozen.repeated_keys, dict(frozen.rejected)) == (180, 120, {})


def test_late_rows_are_kept_with_their_time_and_counted(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 60}")
    lane.apply()
    day = 86_400
    lane.send(
        (0, [{**row, "at_s": 5 * day} for row in sound(0, 20)]),
        (1, [{**row, "at_s": 2 * day} for row in sound(20, 40)]),
        (0, [{**row, "at_s": 3 * day} for row in sound(40, 45)]),
        (-1, sound(45, 60)),
    )
    until(lane.frozen)
    (frozen,) = lane.frozen()
    assert frozen.late_rows == 5
    assert lane.manifest(frozen).provenance.time_sources == ("accept", "create")
    assert list(frozen.writer_schemas) == ["sha256:-1", "sha256:0", "sha256:1"]
    days = Counter(row["_time"] and row["_time"].timestamp() / day for row in lane.dataset_rows(frozen))
    assert days == {5.0: 20, 2.0: 20, 3.0: 5, None: 15}


def test_a_key_is_kept_once_in_all_partitions_where_the_stream_is_the_scope(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 190}")
    lane.change(duplicateScope="stream")
    lane.apply()
    # Pushed rows come before those of the topic. They share a clean partition with those of partition 1, of which ten
    # are no new keys when they are cleaned already.
    lane.send((-2, sound(50, 70)), *((partition, sound(0, 60)) for partition in (2, 1, 0)))
    until(lane.frozen)
    (frozen,) = lane.frozen()
    kept = sorted((row["_partition"], row["key"]) for row in lane.dataset_rows(frozen))
    assert kept == [*((-2, key) for key in range(50, 70)), *((0, key) for key in range(50))]
    assert (frozen.repeated_keys, dict(frozen.rejected)) == (0, {"duplicates": 130})
    letters = lane.dead()
    wanted = [("0", offset) for offset in range(50, 60)] + [(place, offset) for place in "12" for offset in range(60)]
    assert sorted(origin(letter) for letter in letters) == sorted(
        ("duplicates", lane.name, partition, str(offset)) for partition, offset in wanted
    )
    reasons = Counter(letter.header("dead-reason") for letter in letters)
    assert reasons["key: expected a new key, got one that is among the last 100000 of the stream"] == 120

    # What an earlier segment has is no new key in another partition either.
    lane.send((2, sound(60, 200)), (1, sound(190, 240)))
    until(lambda: len(lane.frozen()) == 2)
    _, second = lane.frozen()
    assert sorted(keys(lane.dataset_rows(second))) == [*range(70, 240)]
    assert (second.repeated_keys, dict(second.rejected)) == (0, {"duplicates": 20})


def test_all_rows_of_a_topic_that_was_made_anew_are_in_its_dataset(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 120}")
    lane.apply()
    lane.send((0, sound(0, 40)), (-2, sound(100, 110)))
    until(lambda: rows_told(lane) == 50)
    old, old_offset = lane.source_id, lane.offsets[0]
    lane.source_id = made_anew(lane, until)
    # Nothing in these partitions tells that their offsets are of another topic, and they come first.
    lane.offsets[1] = lane.offsets[2] = 0
    lane.send((1, sound(1_000, 1_050)), (2, sound(2_000, 2_020)))
    until(lambda: lane.failed() and rows_told(lane) == 80)
    # What was delayed is of the topic that is gone, in a partition without and in one with rows that stay.
    new, lane.source_id = lane.source_id, old
    lane.offsets[0] = old_offset
    lane.send((0, sound(40, 45)))
    until(lambda: len(lane.failed()) == 2)
    lane.source_id, lane.offsets[0] = new, 0
    lane.send((0, sound(3_000, 3_040)))
    until(lane.frozen)
    (frozen,) = lane.frozen()
    wanted = [*range(100, 110), *range(1_000, 1_050), *range(2_000, 2_020), *range(3_000, 3_040)]
    assert sorted(keys(lane.dataset_rows(frozen))) == wanted
    assert ranges(frozen.sources) == [(-2, 0, 1), (0, 0, 40), (1, 0, 50), (2, 0, 20)]
    assert lane.manifest(frozen).provenance.topic_id == new
    first, late = (reason for _, reason in lane.failed())
    assert "40 rows of the one before (0:0-39) are part of no dataset" in first
    assert "5 rows of the one before (0:40-44) are part of no dataset" in late


def test_a_topic_that_was_made_anew_begins_a_new_dataset(lanes: Lanes, until: Until) -> None:
    lane = lanes("{afterRecords: 100}")
    # Batches from before they named their topic: a partition that goes back tells it, so one partition is all there is.
    lane.source_id = ""
    lane.apply()
    lane.send((0, sound(0, 60)))
    until(lambda: len(lane.rows()) == 60)
    lane.offsets.clear()
    topic_id = made_anew(lane, until)
    lane.send((0, sound(1_000, 1_060)))
    until(lane.failed)
    lane.send((0, sound(1_060, 1_110)))
    until(lane.frozen)
    (frozen,) = lane.frozen()
    assert sorted(keys(lane.dataset_rows(frozen))) == [*range(1_000, 1_110)]
    assert ranges(frozen.sources) == [(0, 0, 110)]
    assert lane.manifest(frozen).provenance.topic_id == topic_id
    ((request, reason),) = lane.failed()
    assert request == ""
    assert f"topic {lane.name} begins anew" in reason
    assert "produce them again" in reason


def made_anew(lane: Any, until: Until) -> str:
    """Delete the producers' topic, make it again, and return its id."""
    with Admin(lane.settings, "test") as admin, closing(KafkaAdminClient(**lane.settings.kafka_client())) as client:
        client.delete_topics([lane.name])
        until(lambda: not admin.partitions_of(lane.name))
        admin.ensure_topic(lane.name, 3)
        topic_id = admin.topic_id(lane.name)
    assert topic_id != lane.topic_id
    return topic_id


def rows_told(lane: Any) -> int:
    """Return how many rows wait, as far as that was told."""
    told = lane.facts(dataset_pb2.DatasetProgressed)
    return int(told[-1].rows) if told else 0
