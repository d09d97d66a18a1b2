"""The Kafka adapters against a real broker: transactions, fencing, compacted views, lags."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from headrace.events.v1 import pipeline_pb2, run_pb2
from headrace_runtime.kafka import (
    Admin,
    BatchedEvents,
    CompactedView,
    EventProducer,
    Fenced,
    GroupConsumer,
    LogReader,
    TransactionalProducer,
)
from headrace_runtime.kafka import events as events_module
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.kafka.events import MESSAGE_BYTES, MOST_HELD_BYTES
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.settings import ServiceSettings
from headrace_runtime.stream.loops import TransactionLoop
from headrace_runtime.topics import PIPELINE_APPLIED, REGISTRY_LOG, RUN_PROGRESSED

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract


@pytest.fixture
def settings(broker: Platform) -> ServiceSettings:
    return ServiceSettings(
        kafka_bootstrap_servers=broker.bootstrap_servers, metrics_address="", kafka_session_timeout_ms=6_000
    )


@pytest.fixture
def topic(settings: ServiceSettings) -> str:
    name = f"test.{uuid.uuid4()}"
    with Admin(settings, "test") as admin:
        admin.ensure_topic(name, 2)
    return name


def read_all(settings: ServiceSettings, topic: str) -> list[Record]:
    with LogReader(settings, "test") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        return [record for records in reader.read_to(reader.ends(places), stall_s=10) for record in records]


def test_a_transaction_is_seen_whole_or_not_at_all(settings: ServiceSettings, topic: str) -> None:
    with closing(TransactionalProducer(settings, f"tx.{topic}")) as producer:
        with producer.transaction() as transaction:
            transaction.send([Outgoing(topic, b"k", b"kept")])
        with pytest.raises(ZeroDivisionError), producer.transaction() as transaction:  # noqa: PT012
            transaction.send([Outgoing(topic, b"k", b"never")])
            raise ZeroDivisionError
        with producer.transaction() as transaction:
            transaction.send([Outgoing(topic, b"k", b"also kept")])
    assert [record.value for record in read_all(settings, topic)] == [b"kept", b"also kept"]


def test_the_place_of_a_message_is_known_before_the_commit(settings: ServiceSettings, topic: str) -> None:
    with closing(TransactionalProducer(settings, f"tx.{topic}")) as producer, producer.transaction() as transaction:
        place = transaction.send_now(Outgoing(topic, b"k", b"v"))
    assert [(record.partition, record.offset) for record in read_all(settings, topic)] == [place]


def test_a_second_writer_fences_the_first(settings: ServiceSettings, topic: str) -> None:
    first = TransactionalProducer(settings, f"tx.{topic}")
    second = TransactionalProducer(settings, f"tx.{topic}")
    with closing(first), closing(second):
        with pytest.raises(Fenced), first.transaction() as transaction:
            transaction.send([Outgoing(topic, b"k", b"stale")])
        with second.transaction() as transaction:
            transaction.send([Outgoing(topic, b"k", b"fresh")])
    assert [record.value for record in read_all(settings, topic)] == [b"fresh"]


def copy_loop(settings: ServiceSettings, source: str, target: str, fail_at: int | None = None) -> TransactionLoop:
    seen = 0

    def copy(records: Sequence[Record]) -> list[Outgoing]:
        nonlocal seen
        seen += len(records)
        if fail_at is not None and seen >= fail_at:
            raise RuntimeError("killed in the middle")
        return [Outgoing(target, record.key, record.value, (), record.partition) for record in records]

    return TransactionLoop(
        f"copy.{source}",
        partial(GroupConsumer, settings, group=f"copy.{source}", topics=[source], instance="0", max_records=50),
        partial(TransactionalProducer, settings, f"copy.{source}.0"),
        copy,
    )


def test_a_loop_that_dies_in_the_middle_loses_and_doubles_nothing(
    settings: ServiceSettings, topic: str, until: Callable[..., None]
) -> None:
    target = f"{topic}.copy"
    with Admin(settings, "test") as admin:
        admin.ensure_topic(target, 2)
    values = [f"record {number}".encode() for number in range(500)]
    with closing(TransactionalProducer(settings, f"tx.{topic}")) as producer, producer.transaction() as transaction:
        transaction.send([Outgoing(topic, value, value) for value in values])

    died = threading.Event()
    first = copy_loop(settings, topic, target, fail_at=200)
    first.on_failure = lambda _: died.set()
    first.start()
    assert died.wait(20)
    first.stop()

    second = copy_loop(settings, topic, target)
    second.start()
    until(lambda: len(read_all(settings, target)) == len(values))
    second.stop()
    assert sorted(record.value or b"" for record in read_all(settings, target)) == sorted(values)
    with Admin(settings, "test") as admin:
        lags = {lag.topic: lag.messages for lag in admin.lags() if lag.group == f"copy.{topic}"}
    # What is left is the marker of the producer's transaction, one in each partition.
    assert lags[topic] <= 2


def test_a_view_holds_the_newest_of_each_key(settings: ServiceSettings) -> None:
    seen: dict[str, pipeline_pb2.PipelineApplied | None] = {}
    name = f"p{uuid.uuid4().hex[:8]}"
    view = CompactedView(
        settings,
        PIPELINE_APPLIED,
        pipeline_pb2.PipelineApplied,
        lambda key, message, _: seen.update({key: message}),
        "t",
    )
    view.start()
    view.wait_ready(10)
    with closing(TransactionalProducer(settings, f"tx.{name}")) as producer:
        for partitions in (1, 2):
            with producer.transaction() as transaction:
                message = pipeline_pb2.PipelineApplied(pipeline=name, partitions=partitions)
                transaction.send([encode(message, source="test")])
        view.catch_up(10)
        first = seen[name]
        assert first is not None
        assert first.partitions == 2
        with producer.transaction() as transaction:
            transaction.send([Outgoing(PIPELINE_APPLIED.name, name.encode(), None)])
        view.catch_up(10)
    view.stop()
    assert seen[name] is None


def test_best_effort_events_arrive_in_order(settings: ServiceSettings) -> None:
    run = str(uuid.uuid4())
    events = EventProducer(settings, "test")
    events.start()
    for step in range(20):
        events.publish(run_pb2.RunProgressed(run_id=run, step=step))
    events.stop()
    messages = [decode(record, run_pb2.RunProgressed) for record in read_all(settings, RUN_PROGRESSED.name)]
    assert [message.step for message in messages if message.run_id == run] == list(range(20))


def test_events_that_wait_hold_no_more_than_their_share(settings: ServiceSettings, until: Callable[..., None]) -> None:
    run = str(uuid.uuid4())
    events = batched(settings, run)
    for step in range(3):
        events.add(step, MOST_HELD_BYTES // 2)
    events.start()
    until(lambda: events._held_bytes == 0)
    events.add(3, MOST_HELD_BYTES // 2)
    events.stop()
    assert packed(settings, run) == [[0], [1], [3]]


def test_events_share_messages_up_to_a_number_and_a_size(settings: ServiceSettings) -> None:
    run = str(uuid.uuid4())
    events = batched(settings, run)
    for step in range(5):
        events.add(step, 1)
    events.add(5, MESSAGE_BYTES)
    events.add(6, MESSAGE_BYTES - 1)
    events.add(7, 1)
    events.add(8, 1)
    events.start()
    events.stop()
    assert packed(settings, run) == [[0, 1, 2, 3], [4], [5], [6, 7], [8]]


def test_an_event_that_cannot_be_made_or_came_too_long_ago_ends_nothing(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    def lost() -> float:
        return events_module.EVENTS_DROPPED.labels("RunProgressed")._value.get()

    run, before = str(uuid.uuid4()), lost()
    events = batched(settings, run)
    for step in (0, 1, 2, 3, 2**70, 5, 6, 7):
        events.add(step, 0)
    events.start()
    until(lambda: lost() == before + 4)
    monkeypatch.setattr(events_module, "MOST_AGE_S", -1.0)
    events.add(8, 0)
    until(lambda: lost() == before + 5)
    monkeypatch.undo()
    events.add(9, 0)
    events.stop()
    assert packed(settings, run) == [[0, 1, 2, 3], [9]]


def test_a_message_that_kafka_refuses_is_counted_and_the_next_one_arrives(
    settings: ServiceSettings, until: Callable[..., None]
) -> None:
    def lost() -> float:
        return events_module.EVENTS_DROPPED.labels("RunProgressed")._value.get()

    def pack(sizes: Sequence[int]) -> run_pb2.RunProgressed:
        return run_pb2.RunProgressed(run_id=run, metrics={os.urandom(size).hex(): size for size in sizes})

    run, before, mebibyte = str(uuid.uuid4()), lost(), 1024 * 1024
    events = BatchedEvents(settings, "test", run_pb2.RunProgressed, pack, 0.01, at_once=3)
    for _ in range(3):
        events.add(mebibyte, 1)
    events.start()
    until(lambda: lost() > before)
    events.add(16, 1)
    events.stop()
    assert lost() == before + 3
    messages = [decode(record, run_pb2.RunProgressed) for record in read_all(settings, RUN_PROGRESSED.name)]
    assert [list(message.metrics.values()) for message in messages if message.run_id == run] == [[16]]


def test_a_stop_does_not_wait_for_a_kafka_that_is_away(
    settings: ServiceSettings, broker: Platform, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    monkeypatch.setattr(events_module, "STOP_TIMEOUT_S", 0.5)
    run = str(uuid.uuid4())
    events = batched(settings, run)
    broker.signal("kafka", signal.SIGSTOP)
    try:
        events.start()
        events.add(1, 1)
        until(lambda: not events._waiting)
        events.stop()
        assert events._thread.is_alive(), "what was sent was given up, or arrived"
    finally:
        broker.signal("kafka", signal.SIGCONT)
    events._thread.join(60)
    assert packed(settings, run) == [[1]]


def batched(settings: ServiceSettings, run: str) -> BatchedEvents[int]:
    """Return events that tell their steps as metrics, four in a message."""

    def pack(steps: Sequence[int]) -> run_pb2.RunProgressed:
        metrics = {str(step): step for step in steps}
        return run_pb2.RunProgressed(run_id=run, step=min(max(steps), 2**64), metrics=metrics)

    return BatchedEvents(settings, "test", run_pb2.RunProgressed, pack, 0.01, at_once=4)


def packed(settings: ServiceSettings, run: str) -> list[list[int]]:
    messages = [decode(record, run_pb2.RunProgressed) for record in read_all(settings, RUN_PROGRESSED.name)]
    return [sorted(map(int, message.metrics)) for message in messages if message.run_id == run]


def _more(read: list[Record], consumer: GroupConsumer) -> list[Record]:
    read.extend(consumer.poll(0.001))
    return read


def test_topics_are_made_as_declared(settings: ServiceSettings) -> None:
    with Admin(settings, "test") as admin:
        config = admin.topic_config(REGISTRY_LOG.name)
        assert (config["cleanup.policy"], config["retention.ms"], config["retention.bytes"]) == ("delete", "-1", "-1")
        assert admin.topic_config(PIPELINE_APPLIED.name)["cleanup.policy"] == "compact"
        assert admin.partitions_of("no.such.topic") == 0
        pipeline = f"p{uuid.uuid4().hex[:8]}"
        admin.ensure_record_topics(pipeline, 3)
        admin.ensure_record_topics(pipeline, 3)
        assert admin.partitions_of(f"headrace.records.{pipeline}.dead.v1") == 3


def test_a_group_is_joined_however_short_the_polls_are(
    settings: ServiceSettings, topic: str, until: Callable[..., None]
) -> None:
    with closing(TransactionalProducer(settings, f"tx.{topic}")) as producer, producer.transaction() as transaction:
        transaction.send([Outgoing(topic, str(number).encode(), b"v") for number in range(20)])
    for attempt in range(5):
        consumer = GroupConsumer(settings, group=f"short.{attempt}.{topic}", topics=[topic], instance="0")
        with closing(consumer):
            read: list[Record] = []
            until(lambda: len(_more(read, consumer)) == 20)  # noqa: B023
