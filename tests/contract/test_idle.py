"""An idle stream: what is asked of the broker meanwhile, and what ends the wait."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from headrace.events.v1 import pipeline_pb2
from headrace_runtime.kafka import Admin, CompactedView, GroupConsumer, LogReader, TransactionalProducer, views, waiting
from headrace_runtime.kafka.ends import Ends
from headrace_runtime.records import Outgoing
from headrace_runtime.settings import ServiceSettings
from headrace_runtime.topics import PIPELINE_APPLIED

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract
LONG_S = 60.0
"""Longer than any of these tests may take."""


@pytest.fixture
def settings(broker: Platform) -> ServiceSettings:
    return ServiceSettings(
        kafka_bootstrap_servers=broker.bootstrap_servers, metrics_address="", kafka_session_timeout_ms=6_000
    )


@pytest.fixture
def topic(settings: ServiceSettings) -> str:
    name = f"test.{uuid.uuid4()}"
    with Admin(settings, "test") as admin:
        admin.ensure_topic(name, 1)
    return name


@pytest.fixture
def idle(settings: ServiceSettings, topic: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GroupConsumer]:
    """A consumer whose fetch waits at the broker."""
    with closing(GroupConsumer(settings, group=f"g.{topic}", topics=[topic], instance="0")) as consumer:
        deadline_s = time.monotonic() + LONG_S
        while not consumer.positions() and time.monotonic() < deadline_s:
            consumer.poll(0.1)
        # Only now: a fetch that waits keeps the questions waiting by which a consumer finds where to begin.
        monkeypatch.setattr(waiting, "IDLE_AFTER_S", 0.0)
        monkeypatch.setattr(waiting, "IDLE_WAIT_MS", 1_000 * int(LONG_S))
        consumer.poll(0.5)
        yield consumer


def send(settings: ServiceSettings, topic: str) -> None:
    with closing(TransactionalProducer(settings, f"tx.{topic}")) as producer, producer.transaction() as transaction:
        transaction.send([Outgoing(topic, None, b"v")])


def polled(consumer: GroupConsumer, **options: Any) -> tuple[threading.Thread, list[bytes | None]]:
    """Poll in another thread; return it, and where it puts the values that come."""
    values: list[bytes | None] = []
    thread = threading.Thread(target=lambda: values.extend(r.value for r in consumer.poll(2 * LONG_S, **options)))
    thread.start()
    return thread, values


def test_an_idle_consumer_leaves_the_broker_alone(idle: GroupConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher = idle._consumer._fetcher
    asked: list[object] = []
    send_now = fetcher._manager.send

    def counted(request: object, **where: object) -> object:
        asked.append(request)
        return send_now(request, **where)

    monkeypatch.setattr(fetcher._manager, "send", counted)
    for _ in range(10):
        assert idle.poll(0.1) == []
    assert [type(request).__name__ for request in asked if "Fetch" in type(request).__name__] == []


def test_a_record_ends_the_wait_of_an_idle_consumer(settings: ServiceSettings, topic: str, idle: GroupConsumer) -> None:
    thread, values = polled(idle)
    send(settings, topic)
    thread.join(LONG_S)
    assert values == [b"v"]


def test_a_stop_ends_the_wait_of_an_idle_consumer(idle: GroupConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_EVERY_S", 2 * LONG_S)
    stopping = threading.Event()
    thread, values = polled(idle, until=stopping.is_set)
    stopping.set()
    idle.wake()
    thread.join(LONG_S)
    assert not thread.is_alive()
    assert values == []


def test_ends_do_not_wait_behind_the_fetch_of_an_idle_reader(
    settings: ServiceSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "IDLE_AFTER_S", 0.0)
    # kafka-python gives a request up after 30 s: an answer behind this fetch would be an error.
    monkeypatch.setattr(waiting, "IDLE_WAIT_MS", 1_000 * int(LONG_S))
    with LogReader(settings, "test") as reader:
        place = (topic, 0)
        reader.start_at({place: 0})
        assert reader.poll(0.5) == []
        send(settings, topic)
        assert reader.ends([place])[place] >= 1


def test_a_view_that_catches_up_has_seen_what_is_being_committed(settings: ServiceSettings, topic: str) -> None:
    seen: list[str] = []
    compacted = replace(PIPELINE_APPLIED, name=topic)
    view = CompactedView(settings, compacted, pipeline_pb2.PipelineApplied, lambda key, *_: seen.append(key), "test")
    view.start()
    try:
        view.wait_ready(LONG_S)
        with closing(TransactionalProducer(settings, f"tx.{topic}")) as producer:
            with producer.transaction() as transaction:
                transaction.send_now(Outgoing(topic, b"a", b""))
                # As when the broker has answered a commit, and not yet written its markers.
                asked = view.ask()
                assert not asked.wait(1.0)
            assert asked.wait(LONG_S)
        assert seen == ["a"]
    finally:
        view.stop()


def test_nobody_waits_for_the_end_of_an_empty_topic(
    settings: ServiceSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "POLL_TIMEOUT_S", 10 * LONG_S)
    compacted = replace(PIPELINE_APPLIED, name=topic)
    view = CompactedView(settings, compacted, pipeline_pb2.PipelineApplied, lambda *_: None, "test")
    view.start()
    try:
        view.wait_ready(LONG_S)
        view.catch_up(LONG_S)
    finally:
        view.stop()


def test_the_consumers_of_a_process_ask_over_one_connection(settings: ServiceSettings, topic: str) -> None:
    first, second = Ends(settings), Ends(settings)
    assert first.of([(topic, 0)], 10_000) == second.of([(topic, 0)], 10_000) == {(topic, 0): 0}
    assert len(Ends._clients) == 1
    first.close()
    assert second.of([(topic, 0)], 10_000) == {(topic, 0): 0}
    second.close()
    assert Ends._clients == {}
