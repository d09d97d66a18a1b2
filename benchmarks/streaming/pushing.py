"""Pushed batches: unary calls, several in flight, and one stream, beside each other on the service's own process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final

import grpc
from headrace.events.v1 import pipeline_pb2
from headrace.ingestion.v1.ingestion_service_pb2 import PushRequest, PushStreamRequest
from headrace.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from headrace_local.launcher import Platform
from headrace_local.ports import find_free
from headrace_runtime.kafka import Admin, TransactionalProducer
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.settings import KafkaSettings

from benchmarks import figures
from benchmarks.streaming.records import pipeline, values
from benchmarks.streaming.shapes import SHAPES

SHAPE: Final = "8 fields"
PARTITIONS: Final = 3
BATCHES: Final = {1: 400, 1_024: 80}
"""How many batches are pushed, by their records."""
TIMEOUT_S: Final = 120.0


def run(platform: Platform, _folder: Path, rounds: int) -> figures.Measured:
    """Return a table with a line for each size of a batch and each way to push it."""
    topic, address = f"bench-{uuid.uuid4().hex[:8]}", f"127.0.0.1:{find_free(1)[0]}"
    _apply(platform.bootstrap_servers, topic)
    told = {"KAFKA_BOOTSTRAP_SERVERS": platform.bootstrap_servers, "METRICS_ADDRESS": "", "LISTEN_ADDRESS": address}
    environment = os.environ | {f"HEADRACE_{name}": value for name, value in told.items()}
    found: dict[tuple[int, str], list[tuple[float, float]]] = {}
    with (
        subprocess.Popen([sys.executable, "-m", "headrace_ingestion"], env=environment) as service,
        grpc.insecure_channel(address) as channel,
    ):
        stub = IngestionServiceStub(channel)
        try:
            _warm(stub, topic)
            for number in range(rounds):
                for size, count in BATCHES.items():
                    for name, push in WAYS.items():
                        batches = list(islice(_batches(topic, size, f"{name}/{number}"), count))
                        before_s, began_s = figures.cpu_s(service.pid), time.perf_counter()
                        push(stub, batches)
                        took_s = time.perf_counter() - began_s
                        used_s = figures.cpu_s(service.pid) - before_s
                        found.setdefault((size, name), []).append((took_s / count, used_s / count))
        finally:
            service.kill()
    lines = [
        [
            str(size),
            name,
            figures.spread([took_s * 1e3 for took_s, _ in each], 1),
            figures.spread([size / took_s for took_s, _ in each]),
            figures.spread([used_s * 1e3 for _, used_s in each], 1),
        ]
        for (size, name), each in found.items()
    ]
    head = ["records in a batch", "pushed", "ms for a batch", "rows a second", "the service's CPU for a batch (ms)"]
    return figures.Measured(
        figures.table(head, lines), {f"{size} {name}": each for (size, name), each in found.items()}
    )


def _apply(broker: str, topic: str) -> None:
    settings, spec = KafkaSettings(kafka_bootstrap_servers=broker), pipeline(topic, SHAPES[SHAPE])
    with Admin(settings, "benchmarks") as admin:
        admin.ensure_topic(topic, PARTITIONS)
        admin.ensure_record_topics(topic, PARTITIONS)
    applied = pipeline_pb2.PipelineApplied(
        pipeline=topic,
        spec=pipeline_pb2.PipelineSpec(json=spec.canonical_json(), digest=spec.digest),
        partitions=PARTITIONS,
    )
    with closing(TransactionalProducer(settings, topic)) as producer, producer.transaction() as transaction:
        transaction.send([encode(applied, source="benchmarks")])


def _batches(topic: str, size: int, name: str) -> Iterator[PushRequest]:
    records = values(SHAPES[SHAPE])
    number = 0
    while some := list(islice(records, size)):
        yield PushRequest(pipeline=topic, batch_id=f"{name}/{size}/{number}", records=some)
        number += 1


def _warm(stub: IngestionServiceStub, topic: str) -> None:
    """Push until the service knows the pipeline."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            stub.Push(next(_batches(topic, 1, "warm")), timeout=TIMEOUT_S, wait_for_ready=True)
        except grpc.RpcError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)
        else:
            return


def _unary(in_flight: int, stub: Any, batches: list[PushRequest]) -> None:
    waiting: deque[Any] = deque()
    for each in batches:
        waiting.append(stub.Push.future(each, timeout=TIMEOUT_S))
        if len(waiting) >= in_flight:
            waiting.popleft().result()
    for call in waiting:
        call.result()


def _streamed(stub: Any, batches: list[PushRequest]) -> None:
    answers = stub.PushStream((PushStreamRequest(batch=each) for each in batches), timeout=TIMEOUT_S)
    if (count := sum(1 for _ in answers)) != len(batches):
        raise ValueError(f"expected {len(batches)} answers, got {count}")


WAYS: Final[dict[str, Callable[[Any, list[PushRequest]], None]]] = {
    "one call at a time": lambda stub, batches: _unary(1, stub, batches),
    "four calls in flight": lambda stub, batches: _unary(4, stub, batches),
    "one stream": _streamed,
}
