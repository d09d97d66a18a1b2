"""A plain Kafka producer: sends 442 outlines of leaves as JSON, each a sequence of 427 steps.

    python examples/leaves/produce.py [--bootstrap-servers HOST:PORT] [--topic leaves]

They are those that the package aeon holds: `pip install --no-deps aeon`. KAFKA_BOOTSTRAP_SERVERS names brokers
elsewhere than on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from kafka import KafkaProducer

FILES = ("OSULeaf_TRAIN.ts", "OSULeaf_TEST.ts")
"""The archive's own two parts: a pipeline splits all of them in its own way."""


def records() -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each leaf. A line has the distances from the centre, then the species."""
    package = find_spec("aeon")
    if package is None or package.origin is None:
        sys.exit("expected the package aeon, which holds the leaves: pip install --no-deps aeon")
    folder = Path(package.origin).parent / "datasets" / "data" / "OSULeaf"
    lines = [line for file in FILES for line in (folder / file).read_text().splitlines()]
    leaves = [line for line in lines if line.strip() and not line.startswith(("#", "@"))]
    for number, line in enumerate(leaves):
        outline, species = line.rsplit(":", 1)
        name = f"leaf-{number:03d}"
        # A sequence has steps, and at each of them values: here one.
        steps = [[float(distance)] for distance in outline.split(",")]
        value = {"id": name, "outline": steps, "species": f"species {species.strip()}"}
        yield name.encode(), json.dumps(value).encode()


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Send outlines of leaves to a Kafka topic.")
    brokers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--bootstrap-servers", default=brokers)
    parser.add_argument("--topic", default="leaves")
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
