"""JSON records to raw batches, exactly once: the ingestion service's own loop and handler on a real broker."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from headrace_data.spec import load_pipeline
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.settings import Settings
from headrace_ingestion.transport.consumer import handler
from headrace_local.launcher import Platform
from headrace_runtime.kafka import Admin, GroupConsumer, TransactionalProducer
from headrace_runtime.loops import TransactionLoop
from headrace_runtime.messages import Outgoing, Record
from kafka import KafkaProducer
from prometheus_client import REGISTRY

from benchmarks import figures

ROWS = 30_000
PARTITIONS = 2
TIMEOUT_S = 120.0
PIPELINE = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: NAME}
stream:
  topic: NAME
  key: id
  schema:
    - {name: id, type: string, role: id}
    - {name: pixels, type: float32, shape: [8, 8], role: feature, range: [0, 16]}
    - {name: digit, type: int64, role: label, range: [0, 9]}
train:
  network: {kind: mlp, hidden: [16]}
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over the topic."""

    rows_per_s: float
    rows_per_cpu_s: float


def run(platform: Platform, _folder: Path, rounds: int) -> str:
    """Return the table."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    settings = Settings.model_validate({"kafka_bootstrap_servers": platform.bootstrap_servers, "metrics_address": ""})
    with Admin(settings, "benchmarks") as admin:
        admin.ensure_topic(name, PARTITIONS)
        admin.ensure_record_topics(name, PARTITIONS)
    size = _produce(platform, name)
    done = [_pass(settings, name, number) for number in range(rounds)]
    line = [
        f"{ROWS:,} JSON records of {size:.0f} bytes",
        figures.spread([one.rows_per_s for one in done]),
        figures.spread([one.rows_per_cpu_s for one in done]),
    ]
    return figures.table(["JSON to raw, exactly once", "rows/s", "rows per CPU second"], [line])


def _produce(platform: Platform, topic: str) -> float:
    """Send the records; return their mean size in bytes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 17, (500, 8, 8)).tolist()
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers, linger_ms=50, batch_size=256 * 1024)
    total = 0
    for number in range(ROWS):
        record = {"id": f"record-{number}", "pixels": images[number % len(images)], "digit": number % 10}
        value = json.dumps(record).encode()
        total += len(value)
        producer.send(topic, value, partition=number % PARTITIONS)
    producer.flush()
    producer.close()
    return total / ROWS


def _pass(settings: Settings, name: str, number: int) -> Round:
    """Read the topic from its beginning, as a group of its own; measured from the first batch to the last commit."""
    pipeline = load_pipeline(PIPELINE.replace("NAME", name))
    handle = handler(Intake(pipeline, settings.batch_bytes, settings.max_record_bytes))
    started: list[tuple[float, float]] = []

    def first_seen(records: Sequence[Record]) -> Sequence[Outgoing]:
        if not started:
            started.append((time.perf_counter(), time.process_time()))
        return handle(records)

    group = f"{name}.{number}"
    loop = TransactionLoop(
        group,
        partial(GroupConsumer, settings, group=group, topics=[name], instance="0", max_records=settings.poll_records),
        partial(TransactionalProducer, settings, group),
        first_seen,
    )
    wanted = _committed(name) + ROWS
    deadline_s = time.monotonic() + TIMEOUT_S
    loop.start()
    while _committed(name) < wanted:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{_committed(name) - wanted + ROWS:.0f} of {ROWS} records after {TIMEOUT_S:.0f} s")
        time.sleep(0.005)
    wall_s, cpu_s = (
        now - then for now, then in zip((time.perf_counter(), time.process_time()), started[0], strict=True)
    )
    loop.stop()
    return Round(ROWS / wall_s, ROWS / cpu_s)


def _committed(topic: str) -> float:
    return REGISTRY.get_sample_value("headrace_records_consumed_total", {"topic": topic}) or 0.0
