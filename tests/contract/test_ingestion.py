"""Ingestion on a real broker: each record written once, from a topic or by Push; bad ones set aside with the reason."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from headrace.events.v1 import pipeline_pb2, record_pb2
from headrace.ingestion.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from headrace_data.batches import from_ipc
from headrace_data.canonical import sha256_digest
from headrace_data.spec import load_pipeline
from headrace_ingestion.settings import Settings
from headrace_ingestion.wiring import build
from headrace_runtime.kafka import Admin, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.record_topics import dead_topic, raw_topic
from headrace_runtime.records import Record
from headrace_runtime.topics import PIPELINE_TROUBLED
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

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

    def batches(self) -> list[record_pb2.RecordBatch]:
        return [decode(record, record_pb2.RecordBatch) for record in self.read(raw_topic(self.pipeline))]

    def rows(self) -> list[dict[str, Any]]:
        return [row for message in self.batches() for row in from_ipc(message.arrow).to_pylist()]


@pytest.fixture(scope="module")
def schemas(schema_server: Callable[[], Any]) -> Iterator[Any]:
    server = schema_server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def ingestion(
    broker: Platform, forget_pipelines: Callable[[KafkaSettings], None], schemas: Any
) -> Iterator[tuple[Settings, ingestion_service_pb2_grpc.IngestionServiceStub]]:
    settings = Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        metrics_address="",
        kafka_session_timeout_ms=6_000,
        listen_address=f"127.0.0.1:{broker_free_port()}",
        schema_registry_hosts=schemas.host,
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
    return run(ingestion)


def run(ingestion: tuple[Settings, ingestion_service_pb2_grpc.IngestionServiceStub], stream: str = "") -> Running:
    """Apply a pipeline of its own; `stream` is more of its stream's section."""
    settings, stub = ingestion
    name = f"p{uuid.uuid4().hex[:8]}"
    document = DIGITS.replace("{name: digits}", f"{{name: {name}}}")
    if stream.startswith("format:"):
        document = document.replace("  format: json\n", "")
    pipeline = load_pipeline(document.replace("topic: digits", f"topic: {name}\n  {stream}"))
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


def digit(name: str, **more: object) -> bytes:
    return json.dumps({"id": name, "image": name, "pixels": [[1.0] * 8] * 8, "digit": 3, **more}).encode()


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


SELECT = "select: \"$key AS id, $headers['image'] AS image, scan.pixels AS pixels, CAST(scan.digit AS INT) AS digit\""


def test_changes_of_any_form_become_rows_by_a_select(
    ingestion: tuple[Settings, ingestion_service_pb2_grpc.IngestionServiceStub], until: Callable[..., None]
) -> None:
    running = run(ingestion, SELECT)
    sent = [{"scan": {"pixels": [[1.0] * 8] * 8, "digit": digit}} for digit in ("3", "4", "four", 5)]
    with closing(KafkaProducer(bootstrap_servers=running.settings.kafka_bootstrap_servers)) as producer:
        for number, record in enumerate(sent):
            value, headers = json.dumps(record).encode(), [("image", b"i%d" % number)]
            producer.send(running.pipeline, value, key=b"k%d" % number, headers=headers, partition=0)
    until(lambda: len(running.rows()) == 3 and len(running.read(dead_topic(running.pipeline))) == 1)
    assert [(row["id"], row["image"], row["digit"], row["_offset"]) for row in running.rows()] == [
        ("k0", "i0", 3, 0),
        ("k1", "i1", 4, 1),
        ("k3", "i3", 5, 3),
    ]
    (letter,) = running.read(dead_topic(running.pipeline))
    assert (letter.header("dead-rule"), letter.header("dead-field")) == ("select", "digit")
    assert 'scan.digit = "four"' in (letter.header("dead-reason") or "")


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


def test_rows_have_the_time_of_their_producer_or_of_the_broker(running: Running, until: Callable[..., None]) -> None:
    servers = running.settings.kafka_bootstrap_servers
    now_ms = int(time.time() * 1_000)
    yesterday_ms = now_ms - 86_400_000
    ahead = {"message.timestamp.after.max.ms": str(2**62)}
    with closing(KafkaAdminClient(bootstrap_servers=servers)) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, running.pipeline, configs=ahead)])
        with closing(KafkaProducer(bootstrap_servers=servers)) as producer:
            for name, stamp_ms in (("set", yesterday_ms), ("future", now_ms + 7_200_000), ("seconds", 10**15)):
                producer.send(running.pipeline, digit(name), partition=0, timestamp_ms=stamp_ms)
        until(lambda: len(running.rows()) == 1 and len(running.read(dead_topic(running.pipeline))) == 2)
        broker_s = {"message.timestamp.type": "LogAppendTime"}
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, running.pipeline, configs=broker_s)])
    with closing(KafkaProducer(bootstrap_servers=servers)) as producer:
        for number in range(40):
            producer.send(running.pipeline, digit(f"told{number}"), partition=0, timestamp_ms=yesterday_ms)
    until(lambda: len(running.rows()) == 41)

    first, *others = running.rows()
    assert first["_time"] == datetime.fromtimestamp(yesterday_ms / 1_000, UTC)
    logged = {record.offset: record.timestamp_ms for record in running.read(running.pipeline)}
    assert {row["_offset"]: row["_time"].timestamp() * 1_000 for row in others} == {
        row["_offset"]: logged[row["_offset"]] for row in others
    }
    assert all(logged[row["_offset"]] >= now_ms for row in others)
    batches = [decode(each, record_pb2.RecordBatch) for each in running.read(raw_topic(running.pipeline))]
    told = {source for batch in batches if batch.rows for source in batch.time_sources}
    assert told == {record_pb2.TIME_SOURCE_CREATE, record_pb2.TIME_SOURCE_APPEND}
    letters = running.read(dead_topic(running.pipeline))
    assert [letter.header("dead-rule") for letter in letters] == ["future"] * 2
    assert letters[0].header("dead-time") == str(now_ms + 7_200_000)


def test_rows_have_the_time_of_a_field(
    ingestion: tuple[Settings, ingestion_service_pb2_grpc.IngestionServiceStub], until: Callable[..., None]
) -> None:
    running = run(ingestion, "time: at")
    day = "2025-11-29T00:00:00.250000"
    with closing(KafkaProducer(bootstrap_servers=running.settings.kafka_bootstrap_servers)) as producer:
        for name, at in (("z", f"{day}Z"), ("ms", 1_764_374_400_250), ("local", day), ("far", "2099-01-01T00:00:00Z")):
            producer.send(running.pipeline, digit(name, at=at), partition=0)
        producer.send(running.pipeline, digit("none"), partition=0)
    until(lambda: len(running.rows()) == 2 and len(running.read(dead_topic(running.pipeline))) == 3)
    assert {row["_time"].isoformat() for row in running.rows()} == {f"{day}+00:00"}
    letters = running.read(dead_topic(running.pipeline))
    assert [(letter.header("dead-rule"), letter.header("dead-field")) for letter in letters] == [
        ("time", "at"),
        ("future", "at"),
        ("time", "at"),
    ]
    assert 'got "2025-11-29T00:00:00.250000"' in (letters[0].header("dead-reason") or "")
    answer = pushed(running, "batch-1", [digit("pushed", at=f"{day}Z"), digit("late")])
    assert [(item.index, item.rule) for item in answer.rejected] == [(1, "time")]
    assert {row["_time"].isoformat() for row in running.rows()} == {f"{day}+00:00"}


def test_records_in_avro_wait_for_a_registry_that_is_away(
    ingestion: tuple[Settings, ingestion_service_pb2_grpc.IngestionServiceStub],
    until: Callable[..., None],
    schemas: Any,
) -> None:
    row, pixels = {"type": "array", "items": "double"}, 8 * struct.pack("<b8db", 16, *[1.0] * 8, 0)
    fields = [("id", "string"), ("image", "string"), ("pixels", {"type": "array", "items": row}), ("digit", "int")]
    told = {"type": "record", "name": "Scan", "fields": [{"name": name, "type": kind} for name, kind in fields]}
    schemas.add(7, json.dumps(told))
    schemas.answer = (503, b"starting")
    running = run(ingestion, f"format: {{kind: avro, registry: {{url: '{schemas.url}'}}}}")
    with closing(KafkaProducer(bootstrap_servers=running.settings.kafka_bootstrap_servers)) as producer:
        for name, schema in ((b"a", 7), (b"b", 8), (b"c", 7)):
            text = bytes([2 * len(name)]) + name
            value = bytes([0, 0, 0, 0, schema]) + text + text + b"\x10" + pixels + b"\0" + b"\6"
            producer.send(running.pipeline, value, partition=0)
    with LogReader(running.settings, "test") as reader:
        places = reader.partitions(PIPELINE_TROUBLED.name)

        def troubles() -> list[str]:
            reader.start_at(dict.fromkeys(places))
            found = [record for records in reader.read_to(reader.ends(places)) for record in records]
            told = [decode(record, pipeline_pb2.PipelineTroubled) for record in found]
            return [each.reason for each in told if each.pipeline == running.pipeline]

        until(lambda: any("got 503" in reason for reason in troubles()))
        assert (running.rows(), running.read(dead_topic(running.pipeline))) == ([], [])
        schemas.answer = None
        until(lambda: len(running.rows()) == 2 and len(running.read(dead_topic(running.pipeline))) == 1)
    assert [(row["id"], row["digit"], row["_offset"]) for row in running.rows()] == [("a", 3, 0), ("c", 3, 2)]
    named = {digest for batch in running.batches() for digest in batch.writer_schemas}
    assert named == {sha256_digest(json.dumps(told).encode())}
    (letter,) = running.read(dead_topic(running.pipeline))
    assert (letter.header("dead-rule"), (letter.value or b"")[:5]) == ("schema", bytes([0, 0, 0, 0, 8]))


def test_lines_of_a_message_are_records_that_are_replayed_alone(
    ingestion: tuple[Settings, ingestion_service_pb2_grpc.IngestionServiceStub], until: Callable[..., None]
) -> None:
    running = run(ingestion, "format: {kind: json, lines: true}")
    with closing(KafkaProducer(bootstrap_servers=running.settings.kafka_bootstrap_servers)) as producer:
        for names in ("ab", "cd"):
            lines = [digit(names[0]), b"", digit(names[1], digit="?"), digit(f"{names}!")]
            producer.send(running.pipeline, b"\n".join(lines), partition=0)
    until(lambda: len(running.rows()) == 4)
    places = [(row["id"], row["_offset"], row["_index"]) for row in running.rows()]
    assert places == [("a", 0, 0), ("ab!", 0, 3), ("c", 1, 0), ("cd!", 1, 3)]
    request = ingestion_service_pb2.ListDeadLettersRequest(pipeline=running.pipeline)
    letters = list(running.stub.ListDeadLetters(request, timeout=20))
    assert [(each.letter.offset, each.letter.index, each.letter.rule) for each in letters] == [
        (0, 2, "type"),
        (1, 2, "type"),
    ]
    replay = ingestion_service_pb2.ReplayDeadLettersRequest(pipeline=running.pipeline)
    (told, _) = running.stub.ReplayDeadLetters(replay, timeout=20)
    assert (told.outcome, told.letter.value) == (
        ingestion_service_pb2.REPLAY_OUTCOME_REJECTED,
        digit("b", digit="?"),
    )
    assert len(running.rows()) == 4


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


def test_the_snippet_of_the_page_pushes_a_stream(running: Running) -> None:
    pushed(running, "known", [digit("a")])
    page = (Path(__file__).parents[2] / "docs" / "producers.md").read_text()
    (text,) = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "PushStream" in each]
    text = text.replace("127.0.0.1:7010", running.settings.listen_address).replace('"digits"', f'"{running.pipeline}"')
    said = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.splitlines() == [f"tuesday-{number} 1 []" for number in range(3)]


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
