"""The same as a loop over confluent-kafka, a parser and pyarrow, exactly once: what a team would write by itself.

JSON is parsed by orjson, Avro by fastavro, Protobuf by protobuf.

Runs in the environment `streams` of benchmarks/peers. Started as `python -m
benchmarks.streaming.bare BROKER TOPIC SHAPE GROUP`; prints its figures as JSON.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Message, Producer

from benchmarks.streaming import encodings
from benchmarks.streaming.shapes import SHAPES, Field, fits, valid

AT_ONCE = 10_000
MESSAGE_BYTES = 900_000
"""Arrow in one message: what brokers take."""


def main(broker: str, topic: str, shape: str, group: str) -> None:
    """Read the topic from its beginning; measured from the subscription, before anything is fetched, to the end."""
    fields, rows, kind = SHAPES[shape]
    read = encodings.reader(kind, fields)
    consumer, producer = _clients(broker, group)
    producer.init_transactions()
    # Arrow imports what makes arrays of lists when it makes the first.
    _message(fields, [{}], [])
    started = (time.perf_counter(), time.process_time())
    consumer.subscribe([topic])
    seen = 0
    while seen < rows:
        messages = consumer.consume(AT_ONCE, 0.2)
        if not messages:
            continue
        producer.begin_transaction()
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            by_partition.setdefault(message.partition(), []).append(message)
        for partition, found in by_partition.items():
            _write(producer, f"{topic}.bare", partition, _kept(found, fields, read, kind), fields)
        producer.poll(0)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
        seen += len(messages)
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"rows": seen, "wall_s": wall_s, "cpu_s": cpu_s}))
    consumer.close()


def _clients(broker: str, group: str) -> tuple[Consumer, Producer]:
    reading = {
        "bootstrap.servers": broker,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    }
    writing = {"bootstrap.servers": broker, "transactional.id": group, "linger.ms": 5, "compression.type": "lz4"}
    return Consumer(reading), Producer(writing)


def _kept(
    messages: list[Message], fields: tuple[Field, ...], read: encodings.Read, kind: str
) -> list[tuple[dict[str, Any], Message]]:
    kept: list[tuple[dict[str, Any], Message]] = []
    for message in messages:
        value = message.value()
        record = read(value)
        # No other format than JSON can have a key twice.
        if valid(record, value, fields) if kind == "json" else fits(record, fields):
            kept.append((record, message))
    return kept


def _write(
    producer: Producer,
    topic: str,
    partition: int,
    kept: list[tuple[dict[str, Any], Message]],
    fields: tuple[Field, ...],
) -> None:
    wide = sum(8 * max(field.size, 1) for field in fields)
    size = max(1, MESSAGE_BYTES // wide)
    for start in range(0, len(kept), size):
        records = [record for record, _ in kept[start : start + size]]
        producer.produce(
            topic, _message(fields, records, [each for _, each in kept[start : start + size]]), partition=partition
        )


def _message(fields: tuple[Field, ...], records: list[dict[str, Any]], messages: list[Message]) -> bytes:
    """Return records as an Arrow IPC stream, with where each came from and when it was sent."""
    arrays = [_column(field, [record.get(field.name) for record in records]) for field in fields] if messages else []
    places = {
        "_partition": np.array([message.partition() for message in messages], np.int32),
        "_offset": np.array([message.offset() for message in messages], np.int64),
        "_time": np.array([message.timestamp()[1] for message in messages], np.int64),
    }
    names = [field.name for field in fields] if messages else []
    batch = pa.RecordBatch.from_arrays([*arrays, *map(pa.array, places.values())], names=[*names, *places])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _column(field: Field, values: list[Any]) -> pa.Array:
    if field.type == "string":
        return pa.array(values, pa.string())
    numbers = np.array(values, field.type)
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), field.size) if field.size else pa.array(numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])
