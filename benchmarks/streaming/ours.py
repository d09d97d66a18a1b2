"""Ingestion's own loop and handler in a process of their own: JSON records in, checked raw batches out, exactly once.

Started as `python -m benchmarks.streaming.ours BROKER TOPIC SHAPE GROUP`; prints its figures as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial

from headrace_ingestion.core.intake import Intake
from headrace_ingestion.settings import Settings
from headrace_ingestion.transport.consumer import handler
from headrace_ingestion.transport.suspects import IntakeSuspects
from headrace_runtime.kafka import GroupConsumer, TransactionalProducer
from headrace_runtime.process.service import settle
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.stream.loops import TransactionLoop
from prometheus_client import REGISTRY

from benchmarks.streaming.records import pipeline
from benchmarks.streaming.shapes import SHAPES

TIMEOUT_S = 120.0


def main(broker: str, topic: str, name: str, group: str) -> None:
    """Read the topic from its beginning; measured from the start, before anything is fetched, to the last commit."""
    shape = SHAPES[name]
    settings = Settings.model_validate({"kafka_bootstrap_servers": broker, "metrics_address": ""})
    intake = Intake(pipeline(topic, shape), settings.batch_bytes, settings.max_record_bytes)
    handle = handler(intake)
    handled = 0
    all_handled = threading.Event()

    def counted(records: Sequence[Record]) -> Sequence[Outgoing]:
        nonlocal handled
        handled += len(records)
        if handled >= shape.rows:
            all_handled.set()
        return handle(records)

    loop = TransactionLoop(
        group,
        partial(GroupConsumer, settings, group=group, topics=[topic], instance="0", max_records=settings.poll_records),
        partial(TransactionalProducer, settings, group),
        counted,
        suspects=IntakeSuspects(intake, settings.registry_access),
    )
    settle()
    started = (time.perf_counter(), time.process_time())
    loop.start()
    # Asking for the counter costs more than many records do: only the last commit is waited for in that way.
    all_handled.wait(TIMEOUT_S)
    deadline_s = time.monotonic() + TIMEOUT_S
    while (done := REGISTRY.get_sample_value("headrace_records_consumed_total", {"topic": topic}) or 0.0) < shape.rows:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{done:.0f} of {shape.rows} records after {TIMEOUT_S:.0f} s")
        time.sleep(0.005)
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"rows": shape.rows, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)
    loop.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
