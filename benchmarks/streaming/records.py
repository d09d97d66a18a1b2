"""The records that every contender reads, and what is said of them."""

from __future__ import annotations

import json

import numpy as np
from kafka import KafkaProducer

PARTITIONS = 2
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


def produce(broker: str, topic: str, rows: int) -> float:
    """Send the records; return their mean size in bytes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 17, (500, 8, 8)).tolist()
    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=50, batch_size=256 * 1024, compression_type="lz4")
    total = 0
    for number in range(rows):
        record = {"id": f"record-{number}", "pixels": images[number % len(images)], "digit": number % 10}
        value = json.dumps(record).encode()
        total += len(value)
        producer.send(topic, value, partition=number % PARTITIONS)
    producer.flush()
    producer.close()
    return total / rows
