"""The same in Quix Streams, exactly once. Runs in the environment `streams` of benchmarks/peers.

Started as `python -m benchmarks.streaming.quix BROKER TOPIC ROWS GROUP`; prints its figures as JSON.
"""

import json
import sys
import tempfile
import time
from typing import Any

from quixstreams import Application

from benchmarks.streaming.checks import valid


def main(broker: str, topic: str, rows: int, group: str) -> None:
    """Read the topic from its beginning; measured from the first record to the last commit."""
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
    source = app.topic(topic, value_deserializer="json")
    target = app.topic(f"{topic}.quix", value_serializer="json")
    seen = 0
    started = (0.0, 0.0)

    def check(record: dict[str, Any]) -> bool:
        nonlocal seen, started
        if not seen:
            started = (time.perf_counter(), time.process_time())
        seen += 1
        if seen >= rows:
            app.stop()
        return valid(record)

    app.dataframe(source).filter(check).to_topic(target)
    app.run()
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"rows": seen, "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
