"""Ingestion's handler alone: records that are in memory in, messages that nobody sends out. No Kafka is near.

Started as `python -m benchmarks.streaming.handler BROKER TOPIC SHAPE GROUP`, as the others are; prints its figures as
JSON.
"""

from __future__ import annotations

import json
import sys
import time

from headrace_ingestion.core.intake import Intake
from headrace_ingestion.settings import Settings
from headrace_ingestion.transport.consumer import handler
from headrace_runtime.process.service import settle
from headrace_runtime.records import Record

from benchmarks.streaming.records import PARTITIONS, pipeline, values
from benchmarks.streaming.shapes import SHAPES


def main(broker: str, topic: str, name: str, _group: str) -> None:
    """Handle what the service would, as many at a time as it takes at most."""
    shape = SHAPES[name]
    settings = Settings.model_validate({"kafka_bootstrap_servers": broker, "metrics_address": ""})
    handle = handler(Intake(pipeline(topic, shape), settings.batch_bytes, settings.max_record_bytes))
    records = [
        Record(topic, number % PARTITIONS, number // PARTITIONS, None, value, timestamp_ms=1_700_000_000_000)
        for number, value in enumerate(values(shape))
    ]
    settle()
    started = (time.perf_counter(), time.process_time())
    for first in range(0, len(records), settings.poll_records):
        handle(sorted(records[first : first + settings.poll_records], key=lambda record: record.partition))
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"rows": shape.rows, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
