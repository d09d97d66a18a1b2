"""A plain Kafka producer: sends scikit-learn's 1,797 scanned digits as JSON, a few broken records among them.

    python examples/digits/produce.py [--bootstrap-servers HOST:PORT] [--topic digits]

It knows Kafka and JSON and nothing of Headrace, as a team's own producer would.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from kafka import KafkaProducer
from sklearn.datasets import load_digits

BROKEN = {
    100: b'{"id": "broken-json", "pixels": [[0, 1',
    400: b'{"id": "no-pixels", "digit": 3}',
    700: b'{"id": "wrong-shape", "pixels": [1, 2, 3], "digit": 3}',
    1000: json.dumps({"id": "wrong-type", "pixels": [["ink"] * 8] * 8, "digit": 3}).encode(),
    1300: json.dumps({"id": "too-dark", "pixels": [[99] * 8] * 8, "digit": 3}).encode(),
}
"""What goes wrong in real streams, and before which record it is sent."""
DUPLICATE = 1500
"""This record is sent twice."""


def records() -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each record, in order."""
    digits = load_digits()
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        key = f"digit-{number:04d}"
        value = json.dumps({"id": key, "pixels": image.tolist(), "digit": int(digit)}).encode()
        if number in BROKEN:
            yield f"broken-{number}".encode(), BROKEN[number]
        if number == DUPLICATE:
            yield key.encode(), value
        yield key.encode(), value


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Send the digits to a Kafka topic.")
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="digits")
    arguments = parser.parse_args()
    producer = KafkaProducer(bootstrap_servers=arguments.bootstrap_servers, acks="all", linger_ms=20)
    sent = [producer.send(arguments.topic, value, key=key) for key, value in records()]
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()
    print(f"sent {len(sent)} records to {arguments.topic}, {len(BROKEN)} of them broken and one of them twice")


if __name__ == "__main__":
    main()
