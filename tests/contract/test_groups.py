"""Consumer groups against a real broker: what a disturbed member must notice, and what it must never write."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from headrace_runtime.kafka import Admin, GroupConsumer, LogReader, TransactionalProducer
from headrace_runtime.kafka.consumers import Stalled
from headrace_runtime.kafka.producers import MembershipLost
from headrace_runtime.kafka.stamps import Membership
from headrace_runtime.records import Outgoing, Record, next_offsets
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.stream.loops import TransactionLoop
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract


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


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        threading.Event().wait(0.02)


def joined(settings: KafkaSettings, topic: str, instance: str = "0") -> GroupConsumer:
    consumer = GroupConsumer(settings, group=f"group.{topic}", topics=[topic], instance=instance)
    until(lambda: consumer.poll(0.05) or consumer.assignment())
    return consumer


def polled(consumer: GroupConsumer, count: int) -> list[Record]:
    read: list[Record] = []
    while len(read) < count:
        read += consumer.poll(0.2)
    return read


def values(consumer: GroupConsumer, count: int) -> list[bytes]:
    return [record.value or b"" for record in polled(consumer, count)]


def test_the_offsets_of_an_aborted_transaction_are_not_committed_with_the_next(
    settings: KafkaSettings, topic: str
) -> None:
    first, second = (topic, 0), (topic, 1)
    with (
        closing(joined(settings, topic)) as consumer,
        closing(TransactionalProducer(settings, f"tx.{topic}")) as producer,
    ):
        stale = ConsumerGroupMetadata(consumer.group, 7, "a member of old", None)
        with pytest.raises(MembershipLost), producer.transaction() as transaction:
            transaction.commit_offsets({first: 5_000}, Membership(stale, "", {}))
        with producer.transaction() as transaction:
            transaction.commit_offsets({second: 3}, consumer.membership())
        assert consumer.committed([first, second]) == {first: None, second: 3}


def test_a_member_whose_place_was_taken_notices(settings: KafkaSettings, topic: str) -> None:
    with closing(joined(settings, topic)) as old, closing(joined(settings, topic)) as new:
        assert len(new.assignment()) == 2
        with pytest.raises(Stalled, match="no member"):
            until(lambda: old.poll(0.05) and False)


def test_partitions_are_told_when_they_are_assigned(settings: KafkaSettings, topic: str) -> None:
    both = {(topic, 0), (topic, 1)}
    with closing(joined(settings, topic)) as consumer:
        arrivals = consumer.arrivals()
        assert arrivals.new() == both
        consumer.poll(0.05)
        assert arrivals.new() == set()
        with closing(GroupConsumer(settings, group=consumer.group, topics=[topic], instance="1")) as other:
            until(lambda: (consumer.poll(0.05), other.poll(0.05), other.assignment())[-1])
            moved = other.arrivals().new()
            assert moved == other.assignment()
            assert consumer.assignment() == both - moved
            assert arrivals.new() == set()
        until(lambda: consumer.poll(0.05) or consumer.assignment() == both)
        assert arrivals.new() == moved
        # Another reader has its own news.
        assert consumer.arrivals().new() == both


def test_a_broker_that_forgets_what_was_committed_makes_nobody_read_it_again(
    settings: KafkaSettings, topic: str
) -> None:
    with (
        closing(joined(settings, topic)) as consumer,
        closing(TransactionalProducer(settings, f"tx.{topic}")) as producer,
    ):
        with producer.transaction() as transaction:
            transaction.send(Outgoing(topic, None, b"%d" % number, (), 0) for number in range(6))
        assert values(consumer, 6) == [b"0", b"1", b"2", b"3", b"4", b"5"]
        with producer.transaction() as transaction:
            transaction.commit_offsets({(topic, 0): 4}, consumer.membership())
        # What a broker tells that has not loaded all of its log, a client without our memory can make it tell.
        forgetful = KafkaProducer(transactional_id=f"old.{topic}", **settings.kafka_client())
        forgetful.init_transactions()
        forgetful.begin_transaction()
        forgetful.send_offsets_to_transaction(
            {TopicPartition(topic, 0): OffsetAndMetadata(1, "", -1)}, consumer.membership().group_metadata
        )
        forgetful.commit_transaction()
        forgetful.close()
        assert consumer.committed([(topic, 0)]) == {(topic, 0): 1}
    with closing(GroupConsumer(settings, group=consumer.group, topics=[topic], instance="0")) as consumer:
        assert values(consumer, 2) == [b"4", b"5"]


def _knows(cluster: Any, topic: str, topic_id: str) -> bool:
    cluster.request_update()
    return str(cluster.topic_id(topic)) == topic_id


@pytest.mark.timeout(120)
def test_a_topic_that_was_made_anew_and_is_longer_already_is_read_from_its_beginning(
    settings: KafkaSettings, topic: str
) -> None:
    with closing(joined(settings, topic)) as consumer, Admin(settings, "test") as admin:
        for count in (20, 100):
            sent = filled(settings, topic, count)
            assert sorted(values(consumer, count)) == sent
            topic_id = consumer.topic_id(topic)
            assert topic_id == admin.topic_id(topic)
            made_anew(admin, topic)
            cluster, latest = consumer._consumer._client.cluster, admin.topic_id(topic)
            until(partial(_knows, cluster, topic, latest))
            assert consumer.topic_id(topic) == topic_id, "the records of the last poll are of the topic before"


@pytest.mark.timeout(120)
def test_an_offset_of_the_topic_before_is_none_of_the_topic_that_was_made_anew(
    settings: KafkaSettings, topic: str
) -> None:
    with (
        closing(joined(settings, topic)) as consumer,
        closing(TransactionalProducer(settings, f"tx.{topic}")) as producer,
        Admin(settings, "test") as admin,
    ):
        filled(settings, topic, 20)
        read = polled(consumer, 20)
        made_anew(admin, topic)
        sent = filled(settings, topic, 100)
        with producer.transaction() as transaction:
            transaction.commit_offsets(next_offsets(read), consumer.membership())
        assert consumer.committed(sorted({record.place for record in read})) == next_offsets(read)
    # The member ends here, before it has heard of the new topic; the next one knows nothing but what is committed.
    with closing(GroupConsumer(settings, group=consumer.group, topics=[topic], instance="0")) as successor:
        assert sorted(values(successor, 100)) == sent


def test_an_offset_that_was_mirrored_from_another_cluster_is_gone_on_at(settings: KafkaSettings, topic: str) -> None:
    with (
        closing(joined(settings, topic)) as consumer,
        closing(TransactionalProducer(settings, f"tx.{topic}")) as producer,
    ):
        filled(settings, topic, 20)
        read = polled(consumer, 20)
        elsewhere = consumer.membership()._replace(cluster_id="another", topic_ids={topic: "of its own"})
        with producer.transaction() as transaction:
            transaction.commit_offsets(dict.fromkeys(next_offsets(read), 5), elsewhere)
    with closing(GroupConsumer(settings, group=consumer.group, topics=[topic], instance="0")) as successor:
        assert {record.offset for record in polled(successor, 10)} == set(range(5, 10))


@pytest.mark.timeout(120)
def test_a_topic_that_is_made_anew_while_it_is_first_fetched_is_read_from_its_beginning(
    settings: KafkaSettings, topic: str
) -> None:
    filled(settings, topic, 20)
    sent: list[bytes] = []
    with (
        closing(GroupConsumer(settings, group=f"group.{topic}", topics=[topic], instance="0")) as consumer,
        Admin(settings, "test") as admin,
    ):
        refresh = consumer._renewal._refresh

        def meanwhile() -> None:
            # The partitions have come with the first records: the topic is made anew before the client looks.
            until(lambda: any(consumer.positions().values()) or consumer._consumer.poll(100))
            made_anew(admin, topic)
            sent.extend(filled(settings, topic, 100))
            consumer._renewal._refresh = refresh  # type: ignore[method-assign]
            refresh()

        consumer._renewal._refresh = meanwhile  # type: ignore[method-assign]
        read = values(consumer, 100)
        assert sorted(read) == sent


def filled(settings: KafkaSettings, topic: str, count: int) -> list[bytes]:
    """Write so many records to both partitions of a topic, and return them sorted."""
    sent = [f"{count}/{number}".encode() for number in range(count)]
    with closing(KafkaProducer(**settings.kafka_client())) as producer:
        for number, value in enumerate(sent):
            producer.send(topic, value, partition=number % 2)
    return sorted(sent)


def made_anew(admin: Admin, topic: str) -> None:
    admin.delete_topics([topic])
    until(lambda: not admin.partitions_of(topic))
    admin.ensure_topic(topic, 2)


class Copying:
    """A loop that copies a topic, and one record after another that must come through it."""

    def __init__(self, settings: KafkaSettings, topic: str, stack: ExitStack) -> None:
        self.topic, self.target = topic, f"{topic}.copy"
        with Admin(settings, "test") as admin:
            admin.ensure_topic(self.target, 2)
        self._producer = stack.enter_context(closing(TransactionalProducer(settings, f"tx.{topic}")))
        self._reader = stack.enter_context(LogReader(settings, "test"))
        self._reader.start_at(dict.fromkeys(self._reader.partitions(self.target)))
        self._loop = TransactionLoop(
            f"copy.{topic}",
            partial(GroupConsumer, settings, group=f"group.{topic}", topics=[topic], instance="0"),
            partial(TransactionalProducer, settings, f"copy.{topic}"),
            lambda records: [Outgoing(self.target, None, record.value, (), record.partition) for record in records],
        )
        self._loop.start()
        stack.callback(self._loop.stop)
        self.sent: list[bytes] = []
        self.copied: list[bytes] = []

    def slowest_ms(self, partition: int, count: int) -> float:
        """Return how long the slowest of some records took, sent one after another."""
        slowest = 0.0
        for _ in range(count):
            sent_s = time.monotonic()
            self.sent.append(b"%d" % len(self.sent))
            with self._producer.transaction() as transaction:
                transaction.send([Outgoing(self.topic, None, self.sent[-1], (), partition)])
            until(self._has_come)
            slowest = max(slowest, time.monotonic() - sent_s)
        return slowest * 1_000

    def _has_come(self) -> bool:
        self.copied += [record.value or b"" for record in self._reader.poll(0.02)]
        return self.sent[-1] in self.copied


def test_records_flow_on_kept_partitions_while_the_group_rebalances(
    settings: KafkaSettings, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    patient, group = settings.model_copy(update={"kafka_session_timeout_ms": 30_000}), f"group.{topic}"
    with ExitStack() as stack:
        copying = Copying(patient, topic, stack)
        calm_ms = max(copying.slowest_ms(partition, 5) for partition in (0, 1))
        # One member takes its share and then is busy; so the join that another one asks for stays open.
        busy, new = (
            stack.enter_context(closing(GroupConsumer(patient, group=group, topics=[topic], instance=instance)))
            for instance in "12"
        )
        until(lambda: busy.poll(0.05) or busy.assignment())
        until(lambda: new.poll(0.05) or rebalances(patient, group))
        (kept,) = {0, 1} - {partition for _, partition in busy.assignment()}
        open_ms = copying.slowest_ms(kept, 20)
        assert rebalances(patient, group)
        # Once the busy one polls again the join ends, and everything comes through, once.
        until(lambda: (busy.poll(0.02), new.poll(0.02), not rebalances(patient, group))[-1])
        copying.slowest_ms(kept, 5)
    assert sorted(copying.copied) == sorted(copying.sent)
    with capsys.disabled():
        print(f"\nslowest record: {calm_ms:.0f} ms when calm, {open_ms:.0f} ms while a join was open")


def rebalances(settings: KafkaSettings, group: str) -> bool:
    with closing(KafkaAdminClient(**settings.kafka_client())) as admin:
        return str(admin.describe_groups([group])[group]["group_state"]) == "PreparingRebalance"
