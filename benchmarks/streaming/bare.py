"""The same as a loop over confluent-kafka with orjson, exactly once: the least that Python does with librdkafka.

Runs in the environment `streams` of benchmarks/peers. Started as `python -m
benchmarks.streaming.bare BROKER TOPIC ROWS GROUP`; prints its figures as JSON.
"""

import json
import sys
import time

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.streaming.checks import valid

AT_ONCE = 5_000


def main(broker: str, topic: str, rows: int, group: str) -> None:
    """Read the topic from its beginning; measured from the first batch to the last commit."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "transactional.id": group,
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions()
    consumer.subscribe([topic])
    seen = 0
    started = (0.0, 0.0)
    while seen < rows:
        messages = consumer.consume(AT_ONCE, 0.2)
        if not messages:
            continue
        if not seen:
            started = (time.perf_counter(), time.process_time())
        producer.begin_transaction()
        for message in messages:
            record = orjson.loads(message.value())
            if valid(record):
                producer.produce(f"{topic}.bare", orjson.dumps(record), partition=message.partition())
        producer.poll(0)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
        seen += len(messages)
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"rows": seen, "wall_s": wall_s, "cpu_s": cpu_s}))
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
