"""A plain Kafka producer: generates 5,000 rows of 1000 numbers and a class, and sends them as JSON.

    python examples/seed-mlp/produce.py [--bootstrap-servers HOST:PORT] [--topic seed-mlp] [--rows 5000]

The same rows every time. Each of the ten classes has a centre; a row is its centre and noise, so that no single number
tells the class and all of them together do. KAFKA_BOOTSTRAP_SERVERS names brokers elsewhere than on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from kafka import KafkaProducer

SEED = 20_240_501
FEATURES = 1000
CLASSES = 10
SPREAD = 0.12
"""Standard deviation of the centres; that of the noise is 1."""


def examples() -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    """Yield features, [1000] float64, and class of each row, without end."""
    random = np.random.default_rng(SEED)
    centres = random.normal(0.0, SPREAD, (CLASSES, FEATURES))
    while True:
        klass = int(random.integers(CLASSES))
        yield centres[klass] + random.normal(0.0, 1.0, FEATURES), klass


def records(rows: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each record."""
    for number, (features, klass) in enumerate(islice(examples(), rows)):
        name = f"row-{number:05d}"
        value = {"id": name, "features": features.round(4).tolist(), "class": klass}
        yield name.encode(), json.dumps(value).encode()


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Generate rows and send them to a Kafka topic.")
    brokers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--bootstrap-servers", default=brokers)
    parser.add_argument("--topic", default="seed-mlp")
    parser.add_argument("--rows", type=int, default=5000)
    arguments = parser.parse_args()
    producer = KafkaProducer(bootstrap_servers=arguments.bootstrap_servers, acks="all", linger_ms=20)
    sent = [producer.send(arguments.topic, value, key=key) for key, value in records(arguments.rows)]
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()
    print(f"sent {len(sent)} records to {arguments.topic}")


if __name__ == "__main__":
    main()
