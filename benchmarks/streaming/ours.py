"""Ingestion's own loop and handler in a process of their own: JSON records in, checked raw batches out, exactly once.

Started as `python -m benchmarks.streaming.ours BROKER TOPIC ROWS GROUP`; prints its figures as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial

from headrace_data.spec import load_pipeline
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.settings import Settings
from headrace_ingestion.transport.consumer import handler
from headrace_ingestion.transport.suspects import IntakeSuspects
from headrace_runtime.kafka import GroupConsumer, TransactionalProducer
from headrace_runtime.process.service import settle
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.stream.loops import TransactionLoop
from prometheus_client import REGISTRY

from benchmarks.streaming.records import PIPELINE

TIMEOUT_S = 120.0


def main(broker: str, topic: str, rows: int, group: str) -> None:
    """Read the topic from its beginning; measured from the first batch to the last commit."""
    settings = Settings.model_validate({"kafka_bootstrap_servers": broker, "metrics_address": ""})
    intake = Intake(load_pipeline(PIPELINE.replace("NAME", topic)), settings.batch_bytes, settings.max_record_bytes)
    handle = handler(intake)
    started: list[tuple[float, float]] = []
    handled = 0
    all_handled = threading.Event()

    def first_seen(records: Sequence[Record]) -> Sequence[Outgoing]:
        nonlocal handled
        if not started:
            started.append((time.perf_counter(), time.process_time()))
        handled += len(records)
        if handled >= rows:
            all_handled.set()
        return handle(records)

    loop = TransactionLoop(
        group,
        partial(GroupConsumer, settings, group=group, topics=[topic], instance="0", max_records=settings.poll_records),
        partial(TransactionalProducer, settings, group),
        first_seen,
        suspects=IntakeSuspects(intake),
    )
    settle()
    loop.start()
    # Asking for the counter costs more than many records do: only the last commit is waited for in that way.
    all_handled.wait(TIMEOUT_S)
    deadline_s = time.monotonic() + TIMEOUT_S
    while (done := REGISTRY.get_sample_value("headrace_records_consumed_total", {"topic": topic}) or 0.0) < rows:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{done:.0f} of {rows} records after {TIMEOUT_S:.0f} s")
        time.sleep(0.005)
    wall_s, cpu_s = time.perf_counter() - started[0][0], time.process_time() - started[0][1]
    print(json.dumps({"rows": rows, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)
    loop.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
