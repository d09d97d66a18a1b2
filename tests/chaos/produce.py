"""A plain producer, as a user would write one. Prints how many messages were acknowledged."""

from __future__ import annotations

import argparse
import time

from kafka import KafkaProducer
from records import RULE_HEADER, messages

CHUNK_S = 0.05


def main() -> None:
    """Send one producer's messages at an even rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--producer", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="messages a second")
    options = parser.parse_args()
    producer = KafkaProducer(
        bootstrap_servers=options.bootstrap_servers,
        acks="all",
        linger_ms=20,
        compression_type="lz4",
        allow_auto_create_topics=False,
        # Longer than any disturbance: whatever was sent arrives once.
        delivery_timeout_ms=600_000,
        metrics_enabled=False,
        # The topic may have more partitions every moment.
        metadata_max_age_ms=5_000,
    )
    failed: list[BaseException] = []
    began = time.monotonic()
    sent = 0
    placed: dict[bytes, int] = {}
    for number, message in enumerate(messages(options.seed, options.producer, options.count)):
        ahead = began + number / options.rate - time.monotonic()
        if ahead > CHUNK_S:
            time.sleep(ahead)
        # A key stays in its partition when the topic grows, or its duplicates would be no duplicates any more.
        partitions = producer.partitions_for(options.topic)
        partition = placed.setdefault(message.key, number % len(partitions))
        future = producer.send(
            options.topic,
            message.value,
            key=message.key,
            headers=[(RULE_HEADER, message.rule.encode())],
            partition=partition,
        )
        future.add_errback(failed.append)
        sent += 1
    producer.flush()
    producer.close()
    if failed:
        raise SystemExit(f"{len(failed)} of {sent} messages were not acknowledged: {failed[0]!r}")
    print(sent)


if __name__ == "__main__":
    main()
