"""The same in Quix Streams, exactly once. Runs in the environment `streams` of benchmarks/peers.

Started as `python -m benchmarks.streaming.quix BROKER TOPIC SHAPE GROUP`; prints its figures as JSON.
"""

import json
import sys
import tempfile
import time
from typing import Any

import orjson
from quixstreams import Application

from benchmarks.streaming.shapes import SHAPES, valid


def main(broker: str, topic: str, shape: str, group: str) -> None:
    """Read the topic from its beginning; measured from the start, before anything is fetched, to the last commit."""
    fields, rows, _ = SHAPES[shape]
    app = Application(
        broker_address=broker,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=1.0,
        loglevel="WARNING",
        state_dir=tempfile.mkdtemp(prefix="quix-"),
        producer_extra_config={"compression.type": "lz4"},
    )
    source = app.topic(topic, value_deserializer="bytes")
    target = app.topic(f"{topic}.quix", value_serializer="json")
    seen = 0

    def read(value: bytes) -> dict[str, Any] | None:
        nonlocal seen
        seen += 1
        if seen >= rows:
            app.stop()
        record = orjson.loads(value)
        return record if valid(record, value, fields) else None

    app.dataframe(source).apply(read).filter(bool).to_topic(target)
    started = (time.perf_counter(), time.process_time())
    app.run()
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"rows": seen, "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
