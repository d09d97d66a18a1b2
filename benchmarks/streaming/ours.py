"""Ingestion's own loop and handler in a process of their own: records in, checked raw batches out, exactly once.

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


class Loop:
    """The service's loop, and how many records it has handled."""

    def __init__(self, broker: str, topic: str, name: str, group: str, instance: str = "0") -> None:
        settings = Settings.model_validate({"kafka_bootstrap_servers": broker, "metrics_address": ""})
        intake = Intake(pipeline(topic, SHAPES[name]), settings.batch_bytes, settings.max_record_bytes)
        self._handle = handler(intake)
        self._topic = topic
        self.handled = 0
        self.all_handled = threading.Event()
        self._wanted = SHAPES[name].rows
        self.first_cpu_s = 0.0
        """What the process had used when the first records came."""
        most = settings.poll_records
        self.loop = TransactionLoop(
            group,
            partial(GroupConsumer, settings, group=group, topics=[topic], instance=instance, max_records=most),
            partial(TransactionalProducer, settings, f"{group}.{instance}"),
            self._counted,
            suspects=IntakeSuspects(intake, settings.registry_access),
        )

    def _counted(self, records: Sequence[Record]) -> Sequence[Outgoing]:
        self.first_cpu_s = self.first_cpu_s or time.process_time()
        self.handled += len(records)
        if self.handled >= self._wanted:
            self.all_handled.set()
        return self._handle(records)

    @property
    def committed(self) -> int:
        """How many records are committed. Asking costs more than many records do."""
        return int(REGISTRY.get_sample_value("headrace_records_consumed_total", {"topic": self._topic}) or 0)


def main(broker: str, topic: str, name: str, group: str) -> None:
    """Read the topic from its beginning; measured from the start, before anything is fetched, to the last commit."""
    ours, rows = Loop(broker, topic, name, group), SHAPES[name].rows
    settle()
    started = (time.perf_counter(), time.process_time())
    ours.loop.start()
    ours.all_handled.wait(TIMEOUT_S)
    deadline_s = time.monotonic() + TIMEOUT_S
    while (done := ours.committed) < rows:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{done} of {rows} records after {TIMEOUT_S:.0f} s")
        time.sleep(0.005)
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"rows": rows, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)
    ours.loop.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
