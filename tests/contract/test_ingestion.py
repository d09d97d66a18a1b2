"""Ingestion on a real broker: each record written once, from a topic or by Push; bad ones set aside with the reason."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from headrace.events.v1 import pipeline_pb2, record_pb2
from headrace.ingestion.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from headrace_data.batches import from_ipc
from headrace_data.spec import load_pipeline
from headrace_ingestion.settings import Settings
from headrace_ingestion.wiring import build
from headrace_runtime.kafka import Admin, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.records import Record
from headrace_runtime.topics import dead_topic, raw_topic
from kafka import KafkaAdminClient, KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform
    from headrace_runtime.settings import KafkaSettings

pytestmark = pytest.mark.contract

DIGITS = (Path(__file__).parents[2] / "examples" / "digits" / "pipeline.yaml").read_text()


@dataclass
class Running:
    settings: Settings
    pipeline: str
    stub: ingestion_service_pb2_grpc.IngestionServiceStub

    def read(self, topic: str) -> list[Record]:
        with LogReader(self.settings, "test") as reader:
            places = reader.partitions(topic)
            reader.start_at(dict.fromkeys(places))
            return [record for records in reader.read_to(reader.ends(places), stall_s=10) for record in records]

    def rows(self) -> list[dict[str, Any]]:
        messages = [decode(record, record_pb2.RecordBatch) for record in self.read(raw_topic(self.pipeline))]
        return [row for message in messages for row in from_ipc(message.arrow).to_pylist()]


@pytest.fixture(scope="module")
def ingestion(
    broker: Platform, forget_pipelines: Callable[[KafkaSettings], None]
) -> Iterator[tuple[Settings, ingestion_service_pb2_grpc.IngestionServiceStub]]:
    settings = Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        metrics_address="",
        kafka_session_timeout_ms=6_000,
        listen_address=f"127.0.0.1:{broker_free_port()}",
    )
    forget_pipelines(settings)
    service = build(settings)
    service.start()
    with grpc.insecure_channel(settings.listen_address) as channel:
        yield settings, ingestion_service_pb2_grpc.IngestionServiceStub(channel)
    service.stop()
    forget_pipelines(settings)


@pytest.fixture
def running(ingestion: tuple[Settings, ingestion_service_pb2_grpc.IngestionServiceStub]) -> Running:
    settings, stub = ingestion
    name = f"p{uuid.uuid4().hex[:8]}"
    pipeline = load_pipeline(
        DIGITS.replace("{name: digits}", f"{{name: {name}}}").replace("topic: digits", f"topic: {name}")
    )
    with Admin(settings, "test") as admin:
        admin.ensure_topic(name, 2)
        admin.ensure_record_topics(name, 2)
    applied = pipeline_pb2.PipelineApplied(
        pipeline=name,
        spec=pipeline_pb2.PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest),
        partitions=2,
    )
    with closing(TransactionalProducer(settings, f"test.{name}")) as producer, producer.transaction() as transaction:
        transaction.send([encode(applied, source="test")])
    return Running(settings, name, stub)


def broker_free_port() -> int:
    from headrace_local.ports import find_free

    return int(find_free(1)[0])


def digit(name: str) -> bytes:
    return json.dumps({"id": name, "image": name, "pixels": [[1.0] * 8] * 8, "digit": 3}).encode()


def pushed(running: Running, batch_id: str, records: list[bytes]) -> ingestion_service_pb2.PushResponse:
    request = ingestion_service_pb2.PushRequest(pipeline=running.pipeline, batch_id=batch_id, records=records)
    deadline = time.monotonic() + 20
    while True:
        try:
            return running.stub.Push(request, timeout=20)
        except grpc.RpcError as error:
            # The pipeline was applied a moment ago and may not have reached the service yet.
            if error.code() != grpc.StatusCode.NOT_FOUND or time.monotonic() > deadline:
                raise
            threading.Event().wait(0.05)


def test_records_of_a_plain_producer_become_rows_and_dead_letters(running: Running, until: Callable[..., None]) -> None:
    producer = KafkaProducer(bootstrap_servers=running.settings.kafka_bootstrap_servers)
    for number in range(300):
        producer.send(running.pipeline, digit(f"d{number}"), key=f"d{number}".encode(), headers=[("own", b"1")])
        if number % 100 == 0:
            producer.send(running.pipeline, b"{broken", key=b"k", headers=[("own", b"1")])
    producer.close()
    until(lambda: len(running.rows()) >= 300 and len(running.read(dead_topic(running.pipeline))) >= 3)

    rows = running.rows()
    assert sorted(row["id"] for row in rows) == sorted(f"d{number}" for number in range(300))
    assert len({(row["_partition"], row["_offset"]) for row in rows}) == 300
    dead = running.read(dead_topic(running.pipeline))
    assert [letter.value for letter in dead] == [b"{broken"] * 3
    letter = dead[0]
    assert letter.key == b"k"
    assert (letter.header("dead-stage"), letter.header("dead-rule")) == ("ingestion", "json")
    assert letter.header("dead-topic") == running.pipeline
    assert letter.header("own") == "1"
    places = {(int(item.header("dead-partition") or -1), int(item.header("dead-offset") or -1)) for item in dead}
    assert len(places) == 3
    assert not places & {(row["_partition"], row["_offset"]) for row in rows}


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(running: Running, until: Callable[..., None]) -> None:
    servers = running.settings.kafka_bootstrap_servers
    ids: list[str] = []
    for wave in ("old", "new"):
        with Admin(running.settings, "test") as admin:
            ids.append(admin.topic_id(running.pipeline))
        with closing(KafkaProducer(bootstrap_servers=servers)) as producer:
            for number in range(20):
                producer.send(running.pipeline, digit(f"{wave}{number}"), partition=number % 2)
        wanted = {f"{wave}{number}" for number in range(20)}
        until(lambda wanted=wanted: wanted <= {row["id"] for row in running.rows()}, 60)
        if wave == "old":
            with (
                Admin(running.settings, "test") as admin,
                closing(KafkaAdminClient(bootstrap_servers=servers)) as client,
            ):
                client.delete_topics([running.pipeline])
                until(lambda: not admin.partitions_of(running.pipeline))
                admin.ensure_topic(running.pipeline, 2)
    rows = running.rows()
    assert len(rows) == 40
    assert sorted(row["_offset"] for row in rows) == sorted([*range(10)] * 4)
    batches = [decode(each, record_pb2.RecordBatch) for each in running.read(raw_topic(running.pipeline))]
    named = [(batch.topic_id, {row["id"][:3] for row in from_ipc(batch.arrow).to_pylist()}) for batch in batches]
    assert {(topic_id, wave) for topic_id, waves in named for wave in waves} == set(
        zip(ids, ("old", "new"), strict=True)
    )


def test_a_pushed_batch_is_written_once_however_often_it_comes(running: Running) -> None:
    first = pushed(running, "batch-1", [digit("a"), b"{broken", digit("b")])
    again = pushed(running, "batch-1", [digit("a"), b"{broken", digit("b")])
    other = pushed(running, "batch-2", [digit("c")])
    assert (first.accepted, first.repeated_batch, again.repeated_batch, other.accepted) == (2, False, True, 1)
    assert [(item.index, item.rule) for item in first.rejected] == [(1, "json")]
    assert (again.accepted, list(again.rejected)) == (2, list(first.rejected))
    rows = running.rows()
    assert sorted(row["id"] for row in rows) == ["a", "b", "c"]
    assert all(row["_partition"] < 0 for row in rows)
    assert len({(row["_partition"], row["_offset"], row["_index"]) for row in rows}) == 3
    assert [letter.value for letter in running.read(dead_topic(running.pipeline))] == [b"{broken"]


@pytest.mark.parametrize(
    ("pipeline", "batch_id", "records", "code", "message"),
    [
        ("nowhere", "b", [b"{}"], grpc.StatusCode.NOT_FOUND, "pipeline: expected one of .*, got 'nowhere'"),
        (None, "", [b"{}"], grpc.StatusCode.INVALID_ARGUMENT, "batch_id: expected 1 to 200 characters, got 0"),
        (None, "b", [], grpc.StatusCode.INVALID_ARGUMENT, "records: expected at least one record, got none"),
    ],
)
def test_a_wrong_push_is_refused_with_the_reason(
    running: Running, pipeline: str | None, batch_id: str, records: list[bytes], code: grpc.StatusCode, message: str
) -> None:
    pushed(running, "known", [digit("a")])
    request = ingestion_service_pb2.PushRequest(
        pipeline=pipeline or running.pipeline, batch_id=batch_id, records=records
    )
    with pytest.raises(grpc.RpcError, match=message) as caught:
        running.stub.Push(request, timeout=20)
    assert caught.value.code() == code
