"""Pushed batches where many partitions accept them and two instances take turns: each once, in order, in one place."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from headrace.events.v1 import pipeline_pb2, record_pb2
from headrace.ingestion.v1.ingestion_service_pb2 import (
    PushRequest,
    PushResponse,
    PushStreamRequest,
    PushStreamResponse,
)
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from headrace_data.batches import from_ipc
from headrace_data.spec import Pipeline
from headrace_ingestion.settings import Settings
from headrace_ingestion.wiring import build
from headrace_local.ports import find_free
from headrace_runtime.kafka import Admin, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.process.service import Service
from headrace_runtime.record_topics import raw_topic
from headrace_runtime.records import Record
from headrace_runtime.topics import PUSH_ACCEPTED
from kafka import KafkaAdminClient
from kafka.admin import NewPartitions

if TYPE_CHECKING:
    import headrace_preprocessing.settings

pytestmark = pytest.mark.contract

SERVICE = "headrace.ingestion.v1.IngestionService"

ACCEPTING, PARTITIONS, BATCHES, MEANWHILE, ROWS = 6, 3, 32, 16, 3


@dataclass
class Instances:
    """Two instances of ingestion in this process, and what runs a third one in a process of its own."""

    pipeline: str
    channel: grpc.Channel
    """To the first one."""
    stubs: list[IngestionServiceStub]
    services: list[Service]
    spawn: Callable[[], tuple[IngestionServiceStub, subprocess.Popen[bytes]]]


@pytest.fixture(scope="module")
def instances(
    lane_settings: headrace_preprocessing.settings.Settings, new_level_pipeline: Callable[[], Pipeline]
) -> Iterator[Instances]:
    """A pipeline, and instances of ingestion that take its records."""
    spec = new_level_pipeline()
    name = spec.name
    with Admin(lane_settings, "test") as admin:
        admin.ensure_topic(name, PARTITIONS)
        admin.ensure_record_topics(name, PARTITIONS)
        if admin.partitions_of(PUSH_ACCEPTED.name) < ACCEPTING:
            with closing(KafkaAdminClient(**lane_settings.kafka_client())) as client:
                client.create_partitions({PUSH_ACCEPTED.name: NewPartitions(ACCEPTING)})
    applied = pipeline_pb2.PipelineApplied(
        pipeline=name,
        spec=pipeline_pb2.PipelineSpec(json=spec.canonical_json(), digest=spec.digest),
        partitions=PARTITIONS,
    )
    with closing(TransactionalProducer(lane_settings, name)) as producer, producer.transaction() as transaction:
        transaction.send([encode(applied, source="test")])
    addresses = [f"127.0.0.1:{port}" for port in find_free(2)]
    services = [
        build(
            Settings(
                kafka_bootstrap_servers=lane_settings.kafka_bootstrap_servers,
                metrics_address="",
                listen_address=address,
                instance=address[-5:],
            )
        )
        for address in addresses
    ]
    for service in services:
        service.start()
    with ExitStack() as opened:
        channels = [opened.enter_context(grpc.insecure_channel(address)) for address in addresses]
        stubs = [IngestionServiceStub(channel) for channel in channels]

        def spawn() -> tuple[IngestionServiceStub, subprocess.Popen[bytes]]:
            told = {"KAFKA_BOOTSTRAP_SERVERS": lane_settings.kafka_bootstrap_servers, "METRICS_ADDRESS": ""}
            told |= {"LISTEN_ADDRESS": f"127.0.0.1:{find_free(1)[0]}", "INSTANCE": "third"}
            environment = os.environ | {f"HEADRACE_{key}": value for key, value in told.items()}
            process = subprocess.Popen([sys.executable, "-m", "headrace_ingestion"], env=environment)
            opened.callback(process.wait)
            opened.callback(process.kill)
            channel = opened.enter_context(grpc.insecure_channel(told["LISTEN_ADDRESS"]))
            return IngestionServiceStub(channel), process

        yield Instances(name, channels[0], stubs, services, spawn)
    for service in services:
        service.stop()


def request(pipeline: str, batch: object) -> PushRequest:
    records = [json.dumps({"id": f"{batch}-{row}", "level": 0.5, "state": 1}).encode() for row in range(ROWS)]
    return PushRequest(pipeline=pipeline, batch_id=f"b{batch}", records=records)


def pushed(stub: IngestionServiceStub, pipeline: str, batch: object) -> PushResponse:
    """Push a batch until it is taken: whoever took over, or is not ready yet, says so."""
    while True:
        try:
            return stub.Push(request(pipeline, batch), timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
                raise


def written(settings: headrace_preprocessing.settings.Settings, pipeline: str) -> list[Record]:
    with LogReader(settings, "test") as reader:
        places = reader.partitions(raw_topic(pipeline))
        reader.start_at(dict.fromkeys(places))
        return [record for read in reader.read_to(reader.ends(places)) for record in read]


def test_pushed_batches_are_written_once_and_in_order_wherever_they_were_accepted(
    lane_settings: headrace_preprocessing.settings.Settings, instances: Instances
) -> None:
    pipeline, stubs = instances.pipeline, instances.stubs
    # Four batches to one instance, the same and four more to the other, and so on: each fences the one before.
    answers = []
    for turn, start in enumerate(range(0, BATCHES, 4)):
        batches = range(max(0, start - 4), start + 4)
        answers += [pushed(stubs[turn % 2], pipeline, batch) for batch in batches]
    # Then both at the same time, each batch to one.
    with ThreadPoolExecutor(2) as clients:
        batches = range(BATCHES, BATCHES + MEANWHILE)
        answers += clients.map(lambda batch: pushed(stubs[batch % 2], pipeline, batch), batches)
    assert sum(not answer.repeated_batch for answer in answers) == BATCHES + MEANWHILE
    assert all(answer.accepted == ROWS for answer in answers)
    ids, order, homes = [], defaultdict(list), defaultdict(set)
    for record in written(lane_settings, pipeline):
        rows = from_ipc(decode(record, record_pb2.RecordBatch).arrow).to_pylist()
        ids += [row["id"] for row in rows]
        for row in rows:
            order[row["_partition"]].append((row["_offset"], row["_index"]))
            homes[row["_partition"]].add(record.partition)
    assert sorted(ids) == sorted(f"{batch}-{row}" for batch in range(BATCHES + MEANWHILE) for row in range(ROWS))
    assert len(order) == ACCEPTING
    assert all(places == sorted(set(places)) for places in order.values())
    assert homes == {source: {(-1 - source) % PARTITIONS} for source in homes}


STREAMED = 60


def streamed(
    stub: IngestionServiceStub, requests: Iterable[PushRequest], timeout_s: float = 60
) -> Iterator[tuple[str, PushResponse]]:
    call = stub.PushStream((PushStreamRequest(batch=each) for each in requests), timeout=timeout_s, wait_for_ready=True)
    for each in call:
        yield each.batch_id, each.answer


def ended(answers: Iterable[tuple[str, PushResponse]]) -> tuple[list[str], grpc.RpcError]:
    """Return the ids of what was answered, and how the stream ended."""
    ids: list[str] = []
    with pytest.raises(grpc.RpcError) as error:
        ids.extend(batch_id for batch_id, _ in answers)
    return ids, error.value


def test_a_stream_is_written_in_order_and_goes_on_elsewhere_after_a_kill(
    lane_settings: headrace_preprocessing.settings.Settings, instances: Instances
) -> None:
    pipeline, stub = instances.pipeline, instances.stubs[0]
    third, process = instances.spawn()
    pushed(third, pipeline, "known")
    requests = [request(pipeline, f"s{at}") for at in range(STREAMED)]
    expected = [each.batch_id for each in requests]
    answered, end = [], None
    for batch_id, _ in (answers := streamed(third, requests)):
        answered.append(batch_id)
        if len(answered) == STREAMED // 4:
            process.kill()
            rest, end = ended(answers)
            answered += rest
    assert end is not None
    assert (end.code(), answered) == (grpc.StatusCode.UNAVAILABLE, expected[: len(answered)])
    again = list(streamed(stub, requests[max(0, len(answered) - 5) :]))
    assert [batch_id for batch_id, _ in again] == expected[-len(again) :]
    assert [answer.repeated_batch for _, answer in again][:5] == [True] * 5
    assert all(answer.accepted == ROWS for _, answer in again)
    batches = [from_ipc(decode(each, record_pb2.RecordBatch).arrow) for each in written(lane_settings, pipeline)]
    ids = [row for batch in batches for row in batch.column("id").to_pylist() if row.startswith("s")]
    assert sorted(ids) == sorted(f"s{at}-{row}" for at in range(STREAMED) for row in range(ROWS))


def test_the_first_batch_that_cannot_be_written_ends_its_stream(instances: Instances) -> None:
    pipeline, stub = instances.pipeline, instances.stubs[0]
    pushed(stub, pipeline, "known")
    large = PushRequest(pipeline=pipeline, batch_id="large", records=[b" " * 9 * 2**20])
    cases = [
        (PushRequest(pipeline="nowhere", batch_id="x", records=[b"{}"]), "NOT_FOUND", "batch 'x': pipeline: expected"),
        (PushRequest(pipeline=pipeline, records=[b"{}"]), "INVALID_ARGUMENT", "batch '': batch_id: expected 1 to 200"),
        (PushRequest(pipeline=pipeline, batch_id="x"), "INVALID_ARGUMENT", "batch 'x': records: expected at least one"),
        (large, "RESOURCE_EXHAUSTED", "larger than max"),
    ]
    for number, (bad, code, message) in enumerate(cases):
        before, after = (request(pipeline, f"{name}{number}") for name in ("before", "after"))
        answered, end = ended(streamed(stub, [before, bad, after]))
        assert (end.code().name, message in (end.details() or "")) == (code, True), end.details()
        assert bad is large or answered == [before.batch_id]
        assert not stub.Push(after, timeout=30).repeated_batch, "nothing behind it was written"
    twice = [request(pipeline, "twice")] * 3
    assert [answer.repeated_batch for _, answer in streamed(stub, twice)] == [False, True, True]
    assert list(streamed(stub, [])) == []


def test_bytes_that_are_no_batch_and_a_caller_without_patience_end_their_stream_alone(instances: Instances) -> None:
    pipeline, stub = instances.pipeline, instances.stubs[0]
    pushed(stub, pipeline, "known")
    chance, codes = random.Random(20261130), set()
    push: Any = instances.channel.stream_stream(f"/{SERVICE}/PushStream", None, PushStreamResponse.FromString)
    for number in range(40):
        good = PushStreamRequest(batch=request(pipeline, f"fuzz{number}")).SerializeToString()
        bad = bytearray(good)
        for _ in range(1 + number % 5):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        cut = bytes(bad[: chance.randrange(1, len(bad))]) if number % 2 else bytes(bad)
        answers = []
        try:
            answers.extend(push(iter([good, cut, good]), timeout=60))
        except grpc.RpcError as error:
            codes.add(error.code())
        assert answers[0].batch_id == f"bfuzz{number}"
    # What was spoilt is no batch, of no pipeline, or called by an id that none may have.
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    never: SimpleQueue[PushRequest] = SimpleQueue()
    ids, end = ended(streamed(stub, iter(never.get, None), timeout_s=0.3))
    assert (ids, end.code()) == ([], grpc.StatusCode.DEADLINE_EXCEEDED)
    assert stub.Push(request(pipeline, "afterwards"), timeout=30).accepted == ROWS


def test_an_instance_that_stops_answers_what_it_has_begun_with(instances: Instances) -> None:
    pipeline, stub, service = instances.pipeline, instances.stubs[1], instances.services[1]
    pushed(stub, pipeline, "known")
    given: SimpleQueue[PushRequest] = SimpleQueue()
    answers = streamed(stub, iter(given.get, None))
    given.put(request(pipeline, "last"))
    assert next(answers)[0] == "blast"
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    ids, end = ended(answers)
    stopping.join()
    assert (ids, end.code()) == ([], grpc.StatusCode.UNAVAILABLE)
    assert "this instance of ingestion stops" in (end.details() or "")
