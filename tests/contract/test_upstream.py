"""What docs/upstream.md says of kafka-python, shown on the plain library.

A test here that fails is good news: upstream has mended something. Then its row, the function in `kafka.internals` that
it stands for, and what calls that can go.
"""

from __future__ import annotations

import inspect
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kafka
import pytest
from headrace_runtime.kafka import Admin, GroupConsumer, internals
from headrace_runtime.settings import KafkaSettings
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, codec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.future import Future
from kafka.protocol.consumer import ConsumerProtocolAssignment
from kafka.record.default_records import DefaultRecordBatch
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

PAGE = (Path(__file__).parents[2] / "docs" / "upstream.md").read_text()


@pytest.fixture
def settings(broker: Platform) -> KafkaSettings:
    return KafkaSettings.model_validate(
        {"kafka_bootstrap_servers": broker.bootstrap_servers, "kafka_session_timeout_ms": 1_500}
    )


@pytest.fixture
def topic(settings: KafkaSettings) -> str:
    name = f"test.{uuid.uuid4()}"
    with Admin(settings, "test") as admin:
        admin.ensure_topic(name, 2)
    return name


Open = Callable[..., Any]


@pytest.fixture
def consumer(settings: KafkaSettings) -> Iterator[Open]:
    """Open a plain consumer with these options; all are closed at the end."""
    opened: list[KafkaConsumer] = []

    def open_(**options: Any) -> KafkaConsumer:
        # A group whose leader knows no partitions yet shares none out before it looks again.
        plain = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "metadata_max_age_ms": 500}
        opened.append(KafkaConsumer(**(plain | settings.kafka_client() | options)))
        return opened[-1]

    yield open_
    for each in opened:
        each.close(autocommit=False)


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        threading.Event().wait(0.02)


def member_of(settings: KafkaSettings, topic: str, instance: str) -> GroupConsumer:
    """Return a member of the topic's group: its joins are mended, everything else is the library's."""
    return GroupConsumer(settings, group=f"group.{topic}", topics=[topic], instance=instance)


def write(settings: KafkaSettings, topic: str, count: int) -> None:
    with closing(KafkaProducer(**settings.kafka_client())) as producer:
        for number in range(count):
            producer.send(topic, b"%d" % number, partition=0)
        producer.flush()


def polled(consumer: KafkaConsumer, count: int) -> list[int]:
    """Return the offsets of the next records, at least so many."""
    found: list[int] = []

    def look() -> bool:
        found.extend(one.offset for some in consumer.poll(100).values() for one in some)
        return len(found) >= count

    until(look)
    return found


def test_the_page_names_each_function_the_version_and_its_test() -> None:
    functions = {
        name for name, _ in inspect.getmembers(internals, inspect.isfunction) if _.__module__ == internals.__name__
    }
    assert set(re.findall(r"`internals\.(\w+)`", PAGE)) == functions
    tests = {name for name in globals() if name.startswith("test_") and "page" not in name}
    assert set(re.findall(r"`(test_\w+)`", PAGE)) == tests
    assert f"kafka-python {kafka.__version__}" in PAGE


def test_an_assignor_claims_what_it_was_given_once() -> None:
    assignor = CooperativeStickyAssignor()
    assignor.on_assignment(ConsumerProtocolAssignment(version=1, assigned_partitions=[("t", [0])], user_data=b""), 1)
    # No way leads to it by which it could hear that the partition was lost.
    assert [(item.topic, item.partitions) for item in assignor.metadata(["t"]).owned_partitions] == [("t", [0])]
    assert not [name for name in dir(assignor) if "lost" in name or "revoke" in name]


def test_an_offset_that_an_earlier_membership_asked_for_is_kept(consumer: Open, topic: str) -> None:
    member = consumer(group_id=f"group.{topic}", session_timeout_ms=1_500, heartbeat_interval_ms=100)
    member.subscribe([topic])
    until(lambda: member.poll(2_000) or member.assignment())
    asked = member._coordinator._offset_fetch_futures[frozenset({TopicPartition(topic, 0)})] = Future()
    member._coordinator.reset_generation()
    until(lambda: member.poll(2_000) or member.group_metadata().generation_id > 0)
    assert asked in member._coordinator._offset_fetch_futures.values()
    member._coordinator._offset_fetch_futures.clear()


def test_a_reset_over_deleted_records_is_told_to_nobody(consumer: Open, settings: KafkaSettings, topic: str) -> None:
    write(settings, topic, 5)
    partition = TopicPartition(topic, 0)
    with closing(KafkaAdminClient(**settings.kafka_client())) as admin:
        admin.delete_records({partition: 3})
    reader = consumer(group_id=None)
    reader.assign([partition])
    reader.seek(partition, 0)
    assert polled(reader, 2) == [3, 4]
    assert {name for name in dir(ConsumerRebalanceListener) if name.startswith("on_")} == {
        "on_partitions_assigned",
        "on_partitions_lost",
        "on_partitions_revoked",
    }


def test_a_topic_that_was_made_anew_is_read_on_at_the_old_position(
    consumer: Open, settings: KafkaSettings, topic: str
) -> None:
    write(settings, topic, 3)
    reader = consumer(group_id=None)
    reader.assign([TopicPartition(topic, 0)])
    assert polled(reader, 3) == [0, 1, 2]
    with Admin(settings, "test") as admin:
        admin.delete_topics([topic])
        until(lambda: not admin.partitions_of(topic))
        admin.ensure_topic(topic, 2)
    write(settings, topic, 5)
    assert polled(reader, 2) == [3, 4]
    assert not [name for name in dir(reader) if "topic_id" in name]


def test_the_offsets_of_an_aborted_transaction_are_committed_with_the_next(
    consumer: Open, settings: KafkaSettings, topic: str
) -> None:
    group, first, second = f"group.{topic}", TopicPartition(topic, 0), TopicPartition(topic, 1)
    with closing(KafkaProducer(transactional_id=f"tx.{topic}", **settings.kafka_client())) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        stale = ConsumerGroupMetadata(group, 7, "a member of old", None)
        with pytest.raises(KafkaError):
            producer.send_offsets_to_transaction({first: OffsetAndMetadata(5_000, "", -1)}, stale)
        producer.abort_transaction()
        producer.begin_transaction()
        nobody = ConsumerGroupMetadata(group, -1, "", None)
        producer.send_offsets_to_transaction({second: OffsetAndMetadata(3, "", -1)}, nobody)
        producer.commit_transaction()
    reader = consumer(group_id=group)
    assert (reader.committed(first), reader.committed(second)) == (5_000, 3)


def test_steps_of_a_transaction_wait_without_a_limit() -> None:
    for step in (KafkaProducer.send_offsets_to_transaction, KafkaProducer.commit_transaction):
        assert not {name for name in inspect.signature(step).parameters if "timeout" in name}


def test_a_record_costs_a_call(consumer: Open, settings: KafkaSettings, topic: str) -> None:
    write(settings, topic, 50)
    calls: list[int] = []
    reader = consumer(group_id=None)
    reader.assign([TopicPartition(topic, 0)])
    with pytest.MonkeyPatch.context() as patch:
        read = DefaultRecordBatch._read_msg

        def counted(batch: Any, *rest: Any) -> Any:
            calls.append(1)
            return read(batch, *rest)

        patch.setattr(DefaultRecordBatch, "_read_msg", counted)
        assert len(polled(reader, 50)) == 50
    assert len(calls) == 50


def test_no_setting_names_a_level_of_compression() -> None:
    assert list(inspect.signature(codec.zstd_encode).parameters) == ["payload"]
    assert [name for name in KafkaProducer.DEFAULT_CONFIG if "compression" in name] == ["compression_type"]


def test_there_is_no_public_way() -> None:
    """To wait for a fetch or end that wait, to see a position without a request, or to give up what cannot be sent."""
    assert {name for name, _ in inspect.getmembers(KafkaConsumer, inspect.isfunction) if name[0] != "_"} == {
        *("assign", "assignment", "beginning_offsets", "bootstrap", "bootstrap_connected", "close", "commit"),
        *("commit_async", "committed", "end_offsets", "group_metadata", "highwater", "metrics", "offsets_for_times"),
        *("partitions_for_topic", "pause", "paused", "poll", "position", "resume", "seek", "seek_to_beginning"),
        *("seek_to_end", "subscribe", "subscription", "topics", "unsubscribe"),
    }
    assert {name for name, _ in inspect.getmembers(KafkaProducer, inspect.isfunction) if name[0] != "_"} == {
        *("abort_transaction", "begin_transaction", "bootstrap_connected", "close", "commit_transaction", "flush"),
        *("init_transactions", "metrics", "partitions_for", "send", "send_offsets_to_transaction"),
    }


def test_a_fenced_member_polls_on_without_an_error(settings: KafkaSettings, topic: str) -> None:
    with closing(member_of(settings, topic, "0")) as old, closing(member_of(settings, topic, "0")) as new:
        for member in (old, new):
            until(lambda member=member: member.poll(0.05) or member.assignment())  # type: ignore[misc]
        plain = old._consumer
        until(lambda: not plain._coordinator._heartbeat_enabled)
        assert plain.poll(100) == {}
        assert plain._coordinator.state is MemberState.STABLE


def test_only_a_leader_watches_for_more_partitions(settings: KafkaSettings, topic: str) -> None:
    with closing(member_of(settings, topic, "0")) as one, closing(member_of(settings, topic, "1")) as two:
        until(lambda: one.poll(0.02) or two.poll(0.02) or len(one.assignment()) == len(two.assignment()) == 1)
        snapshots = [member._consumer._coordinator._assignment_snapshot for member in (one, two)]
    assert sorted(snapshot is not None for snapshot in snapshots) == [False, True]


def test_a_join_stops_the_reading_of_kept_partitions(
    consumer: Open, settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = consumer(group_id=f"group.{topic}")
    reader.subscribe([topic])
    until(lambda: reader.poll(2_000) or len(reader.assignment()) == 2)
    write(settings, topic, 1)
    # A join that waits for another member: it does not end in time.
    reader._coordinator.request_rejoin()
    monkeypatch.setattr(reader._coordinator, "ensure_active_group", lambda timeout_ms=None: False)
    assert reader.poll(1_000) == {}
    monkeypatch.undo()
    assert polled(reader, 1) == [0]
