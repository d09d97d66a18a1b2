"""A plain Kafka producer: sends scikit-learn's 1,797 scanned digits as JSON, a few broken records among them.

    python examples/digits/produce.py [--bootstrap-servers HOST:PORT] [--topic digits] [--disturbed]

It knows Kafka and JSON and nothing of Headrace, as a team's own producer would. With --disturbed it sends the same
images as a worn-out scanner would: turned, faint and noisy. KAFKA_BOOTSTRAP_SERVERS names brokers elsewhere than on
this machine.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator

from digits import Scan, disturbed, scans
from kafka import KafkaProducer

BROKEN = {
    100: b'{"id": "broken-json", "pixels": [[0, 1',
    400: b'{"id": "no-pixels", "image": "none", "digit": 3}',
    700: b'{"id": "wrong-shape", "image": "none", "pixels": [1, 2, 3], "digit": 3}',
    1000: json.dumps({"id": "wrong-type", "image": "none", "pixels": [["ink"] * 8] * 8, "digit": 3}).encode(),
    1300: json.dumps({"id": "too-dark", "image": "none", "pixels": [[99] * 8] * 8, "digit": 3}).encode(),
}
"""What goes wrong in real streams, and before which record it is sent."""
DUPLICATE = 1500
"""This record is sent twice."""


def records() -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each scanned digit, with what goes wrong in between."""
    for number, scan in enumerate(scans()):
        key, value = record(scan, scan.name)
        if number in BROKEN:
            yield f"broken-{number}".encode(), BROKEN[number]
        if number == DUPLICATE:
            yield key, value
        yield key, value


def disturbed_records() -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each digit as the worn-out scanner sends it."""
    for scan in scans():
        yield record(disturbed(scan), f"{scan.name}-disturbed")


def record(scan: Scan, name: str) -> tuple[bytes, bytes]:
    """Return the key and the JSON of one record."""
    value = {"id": name, "image": scan.name, "pixels": scan.pixels.tolist(), "digit": scan.digit}
    return name.encode(), json.dumps(value).encode()


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Send the digits to a Kafka topic.")
    brokers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--bootstrap-servers", default=brokers)
    parser.add_argument("--topic", default="digits")
    parser.add_argument("--disturbed", action="store_true", help="send them turned, faint and noisy")
    arguments = parser.parse_args()
    producer = KafkaProducer(bootstrap_servers=arguments.bootstrap_servers, acks="all", linger_ms=20)
    sending = disturbed_records() if arguments.disturbed else records()
    sent = [producer.send(arguments.topic, value, key=key) for key, value in sending]
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()
    broken = "" if arguments.disturbed else f", {len(BROKEN)} of them broken and one of them twice"
    print(f"sent {len(sent)} records to {arguments.topic}{broken}")


if __name__ == "__main__":
    main()
