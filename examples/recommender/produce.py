"""A plain Kafka producer: generates what 400 visitors were shown and watched, and sends it as JSON.

    python examples/recommender/produce.py [--bootstrap-servers HOST:PORT] [--topic visits] [--visitors 400]

The same rows every time: 60 films for each visitor. KAFKA_BOOTSTRAP_SERVERS names brokers elsewhere than on this
machine.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from itertools import islice

from cinema import Cinema
from kafka import KafkaProducer


def records(visitors: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each record: one film that one visitor was shown."""
    cinema = Cinema()
    for number, visit in enumerate(islice(cinema.visits(), visitors)):
        features = cinema.features(visit.profile, visit.films)
        for place, film in enumerate(visit.films.tolist()):
            name = f"visitor-{number:04d}/film-{film:03d}"
            row = {key: values[place].tolist() for key, values in features.items()}
            value = {"id": name, "visitor": f"visitor-{number:04d}", **row, "watched": bool(visit.watched[place])}
            yield name.encode(), json.dumps(value).encode()


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Generate visits and send them to a Kafka topic.")
    brokers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--bootstrap-servers", default=brokers)
    parser.add_argument("--topic", default="visits")
    parser.add_argument("--visitors", type=int, default=400)
    arguments = parser.parse_args()
    producer = KafkaProducer(bootstrap_servers=arguments.bootstrap_servers, acks="all", linger_ms=20)
    sent = [producer.send(arguments.topic, value, key=key) for key, value in records(arguments.visitors)]
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()
    print(f"sent {len(sent)} records to {arguments.topic}")


if __name__ == "__main__":
    main()
