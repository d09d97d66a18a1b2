"""A plain Kafka producer: sends questions and answers as JSON, about nothing in particular or about the town.

    python examples/assistant/produce.py everyday|town [--bootstrap-servers HOST:PORT] [--topic assistant]

It knows Kafka and JSON and nothing of Headrace. KAFKA_BOOTSTRAP_SERVERS names brokers elsewhere than on this machine.
"""

from __future__ import annotations

import argparse
import json
import os

from kafka import KafkaProducer
from town import everyday, town


def main() -> None:
    """Send every record and wait until Kafka has all of them."""
    parser = argparse.ArgumentParser(description="Send questions and answers to a Kafka topic.")
    parser.add_argument("subject", choices=("everyday", "town"))
    brokers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    parser.add_argument("--bootstrap-servers", default=brokers)
    parser.add_argument("--topic", default="assistant")
    arguments = parser.parse_args()
    pairs = list(everyday() if arguments.subject == "everyday" else town())
    producer = KafkaProducer(bootstrap_servers=arguments.bootstrap_servers, acks="all", linger_ms=20)
    sent = []
    for number, (question, answer) in enumerate(pairs):
        name = f"{arguments.subject}-{number}"
        value = json.dumps({"id": name, "question": question, "answer": answer}).encode()
        sent.append(producer.send(arguments.topic, value, key=name.encode()))
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()
    print(f"sent {len(sent)} records to {arguments.topic}: {pairs[0][0]} {pairs[0][1]}")


if __name__ == "__main__":
    main()
