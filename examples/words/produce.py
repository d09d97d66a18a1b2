"""A plain Kafka producer: has 1,920 words spoken by espeak-ng, and sends what an ear makes of them as JSON.

    python examples/words/produce.py [--bootstrap-servers HOST:PORT] [--topic words]

It needs espeak-ng, such as by `apt-get install espeak-ng`. KAFKA_BOOTSTRAP_SERVERS names brokers elsewhere than on this
machine.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator

from kafka import KafkaProducer
from speech import heard, takes

TAKES = 4
"""Of each word in each voice."""


def records() -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each recording."""
    for number, (take, bands) in enumerate(heard(list(takes(TAKES)))):
        name = f"take-{number:04d}"
        value = {"id": name, "voice": take.voice, "bands": bands.round(2).tolist(), "word": take.word}
        yield name.encode(), json.dumps(value).encode()


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Send spoken words to a Kafka topic.")
    brokers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--bootstrap-servers", default=brokers)
    parser.add_argument("--topic", default="words")
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
