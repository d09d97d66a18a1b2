"""Pushed batches where many partitions accept them and two instances take turns: each once, in order, in one place."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import pytest
from headrace.events.v1 import pipeline_pb2, record_pb2
from headrace.ingestion.v1.ingestion_service_pb2 import PushRequest, PushResponse
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from headrace_data.batches import from_ipc
from headrace_data.spec import Pipeline
from headrace_ingestion.settings import Settings
from headrace_ingestion.wiring import build
from headrace_local.ports import find_free
from headrace_runtime.kafka import Admin, LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.record_topics import raw_topic
from headrace_runtime.topics import PUSH_ACCEPTED
from kafka import KafkaAdminClient
from kafka.admin import NewPartitions

if TYPE_CHECKING:
    import headrace_preprocessing.settings

pytestmark = pytest.mark.contract

ACCEPTING, PARTITIONS, BATCHES, MEANWHILE, ROWS = 6, 3, 32, 16, 3


@pytest.fixture
def stubs(
    lane_settings: headrace_preprocessing.settings.Settings, level_pipeline: Pipeline
) -> Iterator[tuple[str, list[IngestionServiceStub]]]:
    """A pipeline, and two instances of ingestion that take its records."""
    name, spec = level_pipeline.name, level_pipeline
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
    channels = [grpc.insecure_channel(address) for address in addresses]
    yield name, [IngestionServiceStub(channel) for channel in channels]
    for channel in channels:
        channel.close()
    for service in services:
        service.stop()


def pushed(stub: IngestionServiceStub, pipeline: str, batch: int) -> PushResponse:
    """Push a batch until it is taken: whoever took over, or is not ready yet, says so."""
    records = [json.dumps({"id": f"{batch}-{row}", "level": 0.5, "state": 1}).encode() for row in range(ROWS)]
    while True:
        try:
            return stub.Push(PushRequest(pipeline=pipeline, batch_id=f"b{batch}", records=records), timeout=30)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
                raise


def test_pushed_batches_are_written_once_and_in_order_wherever_they_were_accepted(
    lane_settings: headrace_preprocessing.settings.Settings, stubs: tuple[str, list[IngestionServiceStub]]
) -> None:
    pipeline, instances = stubs
    # Four batches to one instance, the same and four more to the other, and so on: each fences the one before.
    answers = []
    for turn, start in enumerate(range(0, BATCHES, 4)):
        batches = range(max(0, start - 4), start + 4)
        answers += [pushed(instances[turn % 2], pipeline, batch) for batch in batches]
    # Then both at the same time, each batch to one.
    with ThreadPoolExecutor(2) as clients:
        batches = range(BATCHES, BATCHES + MEANWHILE)
        answers += clients.map(lambda batch: pushed(instances[batch % 2], pipeline, batch), batches)
    assert sum(not answer.repeated_batch for answer in answers) == BATCHES + MEANWHILE
    assert all(answer.accepted == ROWS for answer in answers)
    with LogReader(lane_settings, "test") as reader:
        places = reader.partitions(raw_topic(pipeline))
        reader.start_at(dict.fromkeys(places))
        records = [record for read in reader.read_to(reader.ends(places)) for record in read]
    ids, order, homes = [], defaultdict(list), defaultdict(set)
    for record in records:
        rows = from_ipc(decode(record, record_pb2.RecordBatch).arrow).to_pylist()
        ids += [row["id"] for row in rows]
        for row in rows:
            order[row["_partition"]].append((row["_offset"], row["_index"]))
            homes[row["_partition"]].add(record.partition)
    assert sorted(ids) == sorted(f"{batch}-{row}" for batch in range(BATCHES + MEANWHILE) for row in range(ROWS))
    assert len(order) == ACCEPTING
    assert all(places == sorted(set(places)) for places in order.values())
    assert homes == {source: {(-1 - source) % PARTITIONS} for source in homes}
