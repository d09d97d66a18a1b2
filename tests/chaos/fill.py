"""Writes a backlog: records of about 2 KB until the asked size is reached. Prints how many there are."""

from __future__ import annotations

import json
import random
import sys

from kafka import KafkaProducer

PIXELS = 256
WINDOW = 20_000
"""Messages in flight: kafka-python's producer bounds no memory by itself."""


def main() -> None:
    """Write to the topic named on the command line: SERVERS TOPIC BYTES."""
    servers, topic, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    dice = random.Random(1)
    # A few hundred different images are enough: it is the volume that counts.
    images = [json.dumps([round(dice.random(), 5) for _ in range(PIXELS)]) for _ in range(300)]
    producer = KafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=20, batch_size=256 * 1024)
    written = records = 0
    while written < size:
        value = f'{{"id": {records}, "value": {images[records % 300]}, "digit": {records % 10}}}'.encode()
        producer.send(topic, value, key=str(records).encode())
        written += len(value)
        records += 1
        if records % WINDOW == 0:
            producer.flush()
    producer.flush()
    producer.close()
    print(json.dumps({"records": records, "bytes": written}))


if __name__ == "__main__":
    main()
