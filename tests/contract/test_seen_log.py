"""The keys that a partition has seen, restored from a real clean topic: what is read, and how loops wait for it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from headrace.events.v1 import record_pb2
from headrace_data.batches import from_ipc, to_ipc
from headrace_data.key_digests import Digests, key_digests
from headrace_data.spec import Pipeline, load_pipeline
from headrace_preprocessing.adapters import seen_log
from headrace_preprocessing.adapters.seen_log import SeenLog
from headrace_preprocessing.core.cleaner import Cleaner
from headrace_runtime.kafka import Admin, GroupConsumer, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.record_topics import clean_topic, raw_topic
from headrace_runtime.records import Outgoing, Place, Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.stream.loops import TransactionLoop
from kafka import KafkaAdminClient, TopicPartition

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

Until = Callable[..., None]
DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {name}
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: int64, role: label}}
prepare:
  clean: {{duplicateWindow: {window}}}
train: {{network: {{kind: mlp}}}}
"""


class Clean:
    """A clean topic, and a member that cleans what is in it."""

    def __init__(self, settings: KafkaSettings, producer: TransactionalProducer, window: int) -> None:
        self.settings = settings
        name = f"p{uuid.uuid4().hex[:8]}"
        self.pipeline: Pipeline = load_pipeline(DOCUMENT.format(name=name, window=window))
        with Admin(settings, "test") as admin:
            admin.ensure_record_topics(name, 2)
        self.producer = producer
        self.cleaner = Cleaner(self.pipeline)
        self.read: list[str] = []
        """The keys that were read back."""
        self.log = SeenLog(settings, self.cleaner, self._keys)

    def _keys(self, record: Record) -> Digests:
        keys = from_ipc(decode(record, record_pb2.RecordBatch).arrow).column("id")
        self.read += keys.to_pylist()
        return key_digests(keys)

    def message(self, keys: Sequence[str], partition: int = 0) -> Outgoing:
        arrow = to_ipc(pa.RecordBatch.from_pydict({"id": list(keys)}))
        message = record_pb2.RecordBatch(pipeline=self.pipeline.name, arrow=arrow, rows=len(keys))
        return Outgoing(clean_topic(self.pipeline.name), None, message.SerializeToString(), (), partition)

    def write(self, *messages: Sequence[str], partition: int = 0) -> dict[Place, int]:
        with self.producer.transaction() as transaction:
            transaction.send([self.message(keys, partition) for keys in messages])
        return transaction.written()

    def restored(self, *partitions: int) -> list[str]:
        """Restore partitions, and return the keys that were read for it."""
        self.read.clear()
        places = {(raw_topic(self.pipeline.name), partition) for partition in partitions or [0]}
        assert set(self.log.restore(places, lambda: None)) == places
        return self.read

    def accepted(self, keys: Sequence[str], partition: int = 0) -> str:
        new = self.cleaner._partitions[partition].seen.accept(key_digests(pa.array(keys)))
        return "".join(key for key, is_new in zip(keys, new, strict=True) if is_new)


@pytest.fixture
def settings(broker: Platform) -> KafkaSettings:
    return KafkaSettings.model_validate(
        {"kafka_bootstrap_servers": broker.bootstrap_servers, "kafka_session_timeout_ms": 6_000}
    )


@pytest.fixture
def producer(settings: KafkaSettings) -> Iterator[TransactionalProducer]:
    with closing(TransactionalProducer(settings, f"tx.{uuid.uuid4()}")) as producer:
        yield producer


def test_the_keys_hold_what_an_open_transaction_commits(
    settings: KafkaSettings, producer: TransactionalProducer
) -> None:
    clean = Clean(settings, producer, window=10)
    waited = threading.Event()
    reading = threading.Thread(target=clean.log.restore, args=([(raw_topic(clean.pipeline.name), 0)], waited.set))
    with producer.transaction() as transaction:
        transaction.send_now(clean.message("ab"))
        reading.start()
        reading.join(1.0)
        assert reading.is_alive(), "the keys were read without waiting for the transaction"
        assert waited.is_set(), "whoever watches the reading was not told that it lives"
    reading.join(60.0)
    assert clean.accepted("abc") == "c"


def test_only_keys_that_are_missing_are_read(settings: KafkaSettings, producer: TransactionalProducer) -> None:
    clean = Clean(settings, producer, window=6)
    clean.write("ab", "cd")
    assert clean.restored() == [*"abcd"]
    assert clean.accepted("ef") == "ef"
    clean.log.committed(clean.write("ef"))
    # It comes back, or a transaction was aborted, and nobody else has accepted anything.
    assert clean.accepted("gh") == "gh"
    assert clean.restored() == []
    assert clean.accepted("abcdefg") == "g"
    # Another member has.
    clean.write("xy")
    assert clean.restored() == [*"xy"]
    assert clean.accepted("cdefxyab") == "ab"
    assert clean.restored() == []
    # More than a window of them.
    clean.write("1234567", "89")
    assert clean.restored() == [*"123456789"]
    assert clean.accepted("456789xyz3") == "xyz3"


def test_keys_of_a_topic_that_lost_rows_are_read_anew(settings: KafkaSettings, producer: TransactionalProducer) -> None:
    clean = Clean(settings, producer, window=6)
    clean.log.committed(clean.write("ab"))
    assert clean.restored() == [*"ab"]
    ends = clean.write("cd", "ef")
    place = next(iter(ends))
    with closing(KafkaAdminClient(**settings.kafka_client())) as admin:
        admin.delete_records({TopicPartition(*place): ends[place] - 1})
    assert clean.restored() == [*"ef"]
    assert clean.accepted("abef") == "ab"


def test_no_more_is_read_than_the_window_wants(
    settings: KafkaSettings, producer: TransactionalProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_log, "FIRST_STEP", 2)
    clean = Clean(settings, producer, window=7)
    keys = [f"{number:03}" for number in range(120)]
    clean.write(*([key] for key in keys))
    read = clean.restored()
    # In pieces from the end, each in order: 2 offsets with the marker, 4, 8.
    assert sorted(read) == keys[-13:]
    assert clean.accepted([*keys[-7:], keys[-8]]) == keys[-8]


def test_partitions_that_take_long_are_restored_in_turns(
    settings: KafkaSettings, producer: TransactionalProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_log, "STEP_S", 0.0)
    clean = Clean(settings, producer, window=7)
    clean.write("ab")
    clean.write("cd", partition=1)
    places = {(raw_topic(clean.pipeline.name), partition) for partition in (0, 1)}
    first = set(clean.log.restore(places, lambda: None))
    assert len(first) == 1
    assert set(clean.log.restore(places - first, lambda: None)) == places - first
    assert (clean.accepted("abc"), clean.accepted("acd", partition=1)) == ("c", "a")


class Turns:
    """A state that takes one turn of the loop for each partition."""

    def __init__(self) -> None:
        self.restored: list[Place] = []
        self.written: dict[Place, int] = {}

    def restore(self, places: Collection[Place], beat: Callable[[], None]) -> Collection[Place]:
        beat()
        self.restored.append(min(places))
        return self.restored[-1:]

    def committed(self, written: Mapping[Place, int]) -> None:
        self.written |= written


def test_records_of_partitions_that_are_not_restored_yet_come_again(
    settings: KafkaSettings, producer: TransactionalProducer, until: Until
) -> None:
    source = f"test.{uuid.uuid4()}"
    target, state = f"{source}.copy", Turns()
    with Admin(settings, "test") as admin:
        admin.ensure_topic(source, 2)
        admin.ensure_topic(target, 2)
    values = {partition: [f"{partition}/{number}".encode() for number in range(50)] for partition in (0, 1)}
    with producer.transaction() as transaction:
        transaction.send(
            Outgoing(source, None, value, (), partition) for partition, found in values.items() for value in found
        )
    loop = TransactionLoop(
        f"copy.{source}",
        partial(GroupConsumer, settings, group=f"group.{source}", topics=[source], instance="0"),
        partial(TransactionalProducer, settings, f"copy.{source}"),
        lambda records: [Outgoing(target, None, record.value, (), record.partition) for record in records],
        state,
    )
    loop.start()
    until(lambda: len(state.written) == 2)
    with LogReader(settings, "test") as reader:
        places = reader.partitions(target)
        copied: dict[int, list[bytes | None]] = {0: [], 1: []}

        def all_copied() -> bool:
            reader.start_at(dict.fromkeys(places))
            copied.update({0: [], 1: []})
            for records in reader.read_to(reader.ends(places)):
                for record in records:
                    copied[record.partition].append(record.value)
                    ends[record.place] = record.offset + 1
            return copied == values

        ends: dict[Place, int] = {}
        until(all_copied)
        until(lambda: state.written == ends)
    loop.stop()
    assert state.restored == [(source, 0), (source, 1)]
