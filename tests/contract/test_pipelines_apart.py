"""What befalls one pipeline on a real broker concerns no other: topics that grow, are deleted, or hold garbage."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import headrace_ingestion.settings
import headrace_ingestion.wiring
import headrace_model_registry.settings
import headrace_model_registry.wiring
import headrace_preprocessing.settings
import headrace_preprocessing.wiring
import pytest
from headrace.events.v1 import record_pb2
from headrace_client import IngestionClient, RegistryClient
from headrace_data.batches import from_ipc
from headrace_local.ports import find_free
from headrace_runtime.kafka import LogReader, producers
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.record_topics import clean_topic, raw_topic, record_topics
from headrace_runtime.records import Record
from headrace_runtime.stream import recovery
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

if TYPE_CHECKING:
    from headrace_local.launcher import Platform
    from headrace_runtime.process.service import Service
    from headrace_runtime.settings import KafkaSettings

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {name}
  key: id
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: string, role: label}}
prepare: {{transform: {{x: {{scale: standard}}}}, freeze: {{afterRecords: {after}}}}}
train: {{network: {{kind: mlp, hidden: [8]}}, epochs: 3}}
"""
Until = Callable[..., None]


class Streams:
    """The registry, ingestion and preprocessing, and producers of several pipelines."""

    def __init__(self, servers: str, home: Path, stack: ExitStack) -> None:
        self.servers = servers
        registry, ingestion = (f"127.0.0.1:{port}" for port in find_free(2))
        common: dict[str, Any] = {
            "kafka_bootstrap_servers": servers,
            "metrics_address": "",
            "kafka_session_timeout_ms": 6_000,
            "store_url": str(home / "store"),
        }
        self.settings = headrace_preprocessing.settings.Settings(**common)
        self._ingestion_settings = headrace_ingestion.settings.Settings(listen_address=ingestion, **common)
        self.services: dict[str, Service] = {
            "registry": headrace_model_registry.wiring.build(
                headrace_model_registry.settings.Settings(listen_address=registry, **common)
            ),
            "preprocessing": headrace_preprocessing.wiring.build(self.settings),
        }
        for service in self.services.values():
            service.start()
        self.start_ingestion()
        stack.callback(self.stop)
        self.registry = stack.enter_context(RegistryClient(registry))
        self.ingestion = stack.enter_context(IngestionClient(ingestion))
        self.admin = stack.enter_context(closing(KafkaAdminClient(bootstrap_servers=servers)))

    def stop(self) -> None:
        for service in self.services.values():
            service.stop()

    def start_ingestion(self) -> None:
        self.services["ingestion"] = headrace_ingestion.wiring.build(self._ingestion_settings)
        self.services["ingestion"].start()

    def stop_ingestion(self) -> None:
        self.services["ingestion"].stop()

    def apply(self, after: int = 1_000_000, partitions: int = 1) -> str:
        name = f"p{uuid.uuid4().hex[:8]}"
        self.admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1}})
        self.registry.apply(DOCUMENT.format(name=name, after=after))
        return name

    def send(self, topic: str, prefix: str, count: int, partition: int = 0) -> None:
        with closing(KafkaProducer(bootstrap_servers=self.servers, acks="all")) as producer:
            for number in range(count):
                row = {"id": f"{prefix}{number}", "x": number / count, "y": "ab"[number % 2]}
                producer.send(topic, json.dumps(row).encode(), partition=partition)

    def write(self, topic: str, *values: bytes | None, partition: int = 0) -> None:
        with closing(KafkaProducer(bootstrap_servers=self.servers, acks="all")) as producer:
            for value in values:
                producer.send(topic, value, key=None if value else b"", partition=partition)

    def read(self, topic: str) -> list[Record]:
        with LogReader(self.settings, "test") as reader:
            places = reader.partitions(topic)
            reader.start_at(dict.fromkeys(places))
            return [record for records in reader.read_to(reader.ends(places), stall_s=30) for record in records]

    def ids(self, pipeline: str) -> list[str]:
        batches = [
            decode(record, record_pb2.RecordBatch) for record in self.read(clean_topic(pipeline)) if record.headers
        ]
        return [name for batch in batches for name in from_ipc(batch.arrow).column("id").to_pylist()]

    def troubles(self, pipeline: str) -> dict[str, str]:
        """Return what `headrace status` tells of a pipeline, by part."""
        return {trouble.part: trouble.reason for trouble in self.registry.troubles() if trouble.pipeline == pipeline}

    def behind(self, group: str) -> int:
        return sum(lag.messages for lag in self.registry.lags() if lag.group == group)


@pytest.fixture(scope="module")
def streams(
    broker: Platform, tmp_path_factory: pytest.TempPathFactory, forget_pipelines: Callable[[KafkaSettings], None]
) -> Iterator[Streams]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        # A transaction that cannot be written gives up sooner than the 30 s that a broker may take.
        patch.setattr(producers, "ANSWER_TIMEOUT_S", 5.0)
        patch.setattr(recovery, "WELL_AFTER_S", 2.0)
        started = Streams(broker.bootstrap_servers, tmp_path_factory.mktemp("streams"), stack)
        stack.callback(forget_pipelines, started.settings)
        yield started
        assert not [name for name, service in started.services.items() if service._failure], "a service ended"


def test_a_pipeline_grows_with_its_producers_topic(streams: Streams, until: Until) -> None:
    grows, other = streams.apply(), streams.apply()
    streams.send(grows, "before", 60)
    until(lambda: len(streams.ids(grows)) == 60)
    streams.admin.create_partitions({grows: 3})
    for partition in range(3):
        streams.send(grows, f"after{partition}-", 60, partition)
    streams.send(other, "other", 30)
    # Partitions that nobody has read yet are work that waits.
    assert streams.behind(f"ingestion.{grows}") >= 120
    until(lambda: len(streams.ids(grows)) == 240, 60)
    expected = {f"before{number}" for number in range(60)}
    expected |= {f"after{partition}-{number}" for partition in range(3) for number in range(60)}
    assert set(streams.ids(grows)) == expected
    described = streams.admin.describe_topics(record_topics(grows))
    assert [len(topic["partitions"]) for topic in described] == [3, 3, 3]
    assert streams.registry.pipeline(grows).partitions == 3
    assert streams.registry.pipeline(other).partitions == 1
    assert len(streams.ids(other)) == 30
    until(lambda: not streams.behind(f"ingestion.{grows}"))
    # A dead letter of a new partition has its place beside the others, also that of a tombstone.
    streams.write(grows, b"{broken", None, partition=2)
    until(lambda: len(list(streams.ingestion.dead_letters(grows))) == 2)
    assert {letter.id.partition(":")[0] for letter in streams.ingestion.dead_letters(grows)} == {"2"}
    assert not streams.troubles(grows)
    # Rows of all partitions are in the next dataset, in the order of partition and offset.
    streams.registry.freeze(grows)
    until(lambda: streams.registry.datasets(grows))
    frozen = streams.registry.datasets(grows)[0].frozen
    assert [source.partition for source in frozen.sources] == [0, 1, 2]
    assert frozen.rows.train + frozen.rows.validation + frozen.rows.test == 240


def test_a_topic_that_is_deleted_troubles_its_pipeline_alone(streams: Streams, until: Until) -> None:
    broken, other = streams.apply(), streams.apply()
    streams.send(broken, "first", 20)
    until(lambda: len(streams.ids(broken)) == 20)
    streams.admin.delete_topics([raw_topic(broken)])
    until(lambda: "does not exist" in streams.troubles(broken).get("registry", ""), 60)
    streams.send(broken, "second", 20)
    until(lambda: "fails and is started again" in streams.troubles(broken).get(f"ingestion.{broken}", ""), 60)
    streams.send(other, "other", 20)
    until(lambda: len(streams.ids(other)) == 20)
    assert "raw.v1 does not exist: apply the pipeline once more" in streams.troubles(broken)["registry"]
    assert not streams.troubles(other)
    assert list(streams.ingestion.dead_letters(other)) == []
    streams.registry.apply(DOCUMENT.format(name=broken, after=1_000_000))
    until(lambda: len(streams.ids(broken)) == 40, 60)
    until(lambda: not streams.troubles(broken), 60)


def test_garbage_in_a_pipelines_own_topics_is_passed_over(streams: Streams, until: Until) -> None:
    name = streams.apply()
    streams.send(name, "first", 20)
    until(lambda: len(streams.ids(name)) == 20)
    rubbish = record_pb2.RecordBatch(pipeline=name, arrow=b"rubbish" * 16, rows=7).SerializeToString()
    # A batch of another pipeline, whose rows lie before those here, and rubbish that begins far behind them.
    foreign = record_pb2.RecordBatch.FromString(streams.read(clean_topic(name))[0].value or b"")
    foreign.pipeline = "another"
    far = record_pb2.SourceRange(partition=0, start=10**12, end=10**12 + 9)
    far_off = record_pb2.RecordBatch(pipeline=name, arrow=b"rubbish", rows=9, sources=[far])
    streams.write(clean_topic(name), b"\xff garbage", rubbish, foreign.SerializeToString(), far_off.SerializeToString())
    # A changed spec starts the loops anew: what they remember is read back from the clean topic.
    streams.registry.apply(DOCUMENT.format(name=name, after=999_999))
    streams.send(name, "first", 20)
    streams.send(name, "second", 20)
    until(lambda: len(streams.ids(name)) == 40)
    rules = [letter.rule for letter in streams.ingestion.dead_letters(name)]
    assert rules == ["duplicates"] * 20, "what stands around the garbage is remembered"
    assert "is no batch of clean records and is passed over" in streams.troubles(name)[f"preprocessing.{name}"]
    streams.registry.freeze(name)
    until(lambda: streams.registry.datasets(name))
    frozen = streams.registry.datasets(name)[0].frozen
    assert frozen.rows.train + frozen.rows.validation + frozen.rows.test == 40
    assert dict(frozen.rejected) == {"duplicates": 20, "unreadable": 3, "unfrozen": 7}


def test_records_that_retention_took_unread_are_told(streams: Streams, until: Until) -> None:
    name = streams.apply()
    streams.send(name, "read", 100)
    until(lambda: len(streams.ids(name)) == 100)
    streams.registry.freeze(name)
    until(lambda: streams.registry.datasets(name))
    streams.stop_ingestion()
    streams.send(name, "new", 200)
    streams.admin.delete_records({TopicPartition(name, 0): 250})
    streams.send(name, "last", 20)
    streams.start_ingestion()
    until(lambda: len(streams.ids(name)) == 170)
    gap = f"{name}:0:100-249 was deleted before it was read"
    until(lambda: gap in streams.troubles(name).get(f"ingestion.{name}", ""))
    for offset in (100, 150, 249):
        (fate,) = streams.registry.record_fates(name, 0, offset)
        assert not fate.waiting
        assert (fate.rejection.stage, fate.rejection.rule) == ("ingestion", "deletedUnread")
        assert gap in fate.rejection.reason
    for offset, waits in ((99, False), (250, True)):
        (fate,) = streams.registry.record_fates(name, 0, offset)
        assert (fate.waiting, fate.rejection.rule) == (waits, "")
    streams.registry.freeze(name)
    until(lambda: len(streams.registry.datasets(name)) == 2)
    frozen = streams.registry.datasets(name)[1].frozen
    assert [(source.start, source.end) for source in frozen.sources] == [(100, 320)]
    assert dict(frozen.rejected) == {"deletedUnread": 150}
    # There is nothing to send once more, and the next start finds nothing new.
    (letter,) = streams.ingestion.dead_letters(name)
    assert (letter.rule, letter.offset, letter.value) == ("deletedUnread", 100, b"")
    (outcome,) = streams.ingestion.replay(name)
    assert "expected a record, got none" in outcome.reason
    assert len(list(streams.ingestion.dead_letters(name))) == 1


def test_clean_rows_that_retention_took_unfrozen_are_told(streams: Streams, until: Until) -> None:
    name = streams.apply()
    for wave in range(3):
        streams.send(name, f"wave{wave}-", 50)
        until(lambda wave=wave: len(streams.ids(name)) == 50 * (wave + 1))
    # Rows that go before whoever freezes has counted them are told of as a gap.
    until(lambda: next(streams.registry.watch(name, timeout_s=60)).filling.rows == 150)
    first = streams.read(clean_topic(name))[0]
    streams.admin.delete_records({TopicPartition(clean_topic(name), 0): first.offset + 1})
    streams.registry.freeze(name)
    until(lambda: streams.registry.datasets(name))
    frozen = streams.registry.datasets(name)[0].frozen
    rows = frozen.rows.train + frozen.rows.validation + frozen.rows.test
    assert rows < 150
    assert dict(frozen.rejected) == {"unfrozen": 150 - rows}
    told = streams.troubles(name)[f"preprocessing.{name}"]
    assert f"{150 - rows} of 150 clean rows are not in the dataset" in told
