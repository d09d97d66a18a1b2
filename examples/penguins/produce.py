"""A plain Kafka producer: sends the 344 penguins of rows.jsonl as JSON, a few broken records among them.

    python examples/penguins/produce.py [--bootstrap-servers HOST:PORT] [--topic penguins] [--create-topic]

It knows Kafka and JSON and nothing of Headrace, as a team's own producer would. KAFKA_BOOTSTRAP_SERVERS names brokers
elsewhere than on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import TopicAlreadyExistsError

ROWS = Path(__file__).parent / "rows.jsonl"
BROKEN = {
    50: b'{"id": "broken-json", "island": "Dream',
    100: b'{"id": "no-number", "island": "Dream", "bill_length_mm": "long", "species": "Gentoo"}',
    150: b'{"id": "no-penguin", "island": "Dream", "body_mass_g": 70000, "species": "Gentoo"}',
}
"""What goes wrong in real streams, and before which record it is sent."""
DUPLICATE = 200
"""This record is sent twice."""


def records() -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each penguin, with what goes wrong in between."""
    for number, line in enumerate(ROWS.read_bytes().splitlines()):
        key = json.loads(line)["id"].encode()
        if number in BROKEN:
            yield f"broken-{number}".encode(), BROKEN[number]
        if number == DUPLICATE:
            yield key, line
        yield key, line


def create_topic(bootstrap_servers: str, topic: str) -> None:
    """Create the topic with one partition unless it exists."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        pass
    finally:
        admin.close()


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Send the penguins to a Kafka topic.")
    brokers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--bootstrap-servers", default=brokers)
    parser.add_argument("--topic", default="penguins")
    parser.add_argument("--create-topic", action="store_true", help="make the topic first, unless it exists")
    arguments = parser.parse_args()
    if arguments.create_topic:
        create_topic(arguments.bootstrap_servers, arguments.topic)
    producer = KafkaProducer(bootstrap_servers=arguments.bootstrap_servers, acks="all", linger_ms=20)
    sent = [producer.send(arguments.topic, value, key=key) for key, value in records()]
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()
    print(f"sent {len(sent)} records to {arguments.topic}, {len(BROKEN)} of them broken and one of them twice")


if __name__ == "__main__":
    main()
