"""What is sent, and the pipeline that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from headrace_data.spec import Pipeline, load_pipeline
from kafka import KafkaProducer

from benchmarks.streaming import encodings
from benchmarks.streaming.shapes import Field, Shape

PARTITIONS = 2
_DRAWN = 500
"""Values that are drawn of each field; records take them in turn."""


def pipeline(topic: str, shape: Shape) -> Pipeline:
    """Return a pipeline of records of a shape."""
    fields = "\n".join(f"    - {_declared(field)}" for field in shape.fields)
    return load_pipeline(f"""
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {topic}}}
stream:
  topic: {topic}
  key: id
  format: {encodings.told(shape.format, shape.fields)}
  schema:
{fields}
train:
  network: {{kind: mlp, hidden: [16]}}
""")


def _declared(field: Field) -> str:
    shape = f", shape: [{field.size}]" if field.size else ""
    limits = "" if field.type == "string" else f", range: [{field.low}, {field.high}]"
    return f"{{name: {field.name}, type: {field.type}, role: {field.role}{shape}{limits}}}"


def values(shape: Shape) -> Iterator[bytes]:
    """Yield the records, as producers write them."""
    write = encodings.writer(shape.format, shape.fields)
    random = np.random.default_rng(0)
    drawn = {field.name: _drawn(field, random) for field in shape.fields}
    for number in range(shape.rows):
        record = {name: found[number % _DRAWN] for name, found in drawn.items()}
        yield write(record | {"id": f"record-{number}"})


def _drawn(field: Field, random: np.random.Generator) -> list[Any]:
    if field.type == "string":
        return [f"site {number % 40}" for number in range(_DRAWN)]
    size = (_DRAWN, field.size) if field.size else (_DRAWN,)
    if field.type == "int64" or field.high >= field.size > 1:
        return list(random.integers(int(field.low), int(field.high), size, endpoint=True).tolist())
    return list(random.uniform(field.low, field.high, size).round(4).tolist())


def produce(broker: str, topic: str, shape: Shape, partitions: int = PARTITIONS) -> float:
    """Send the records; return their mean size in bytes."""
    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=50, batch_size=256 * 1024, compression_type="lz4")
    total = 0
    for number, value in enumerate(values(shape)):
        total += len(value)
        producer.send(topic, value, partition=number % partitions)
    producer.flush()
    producer.close()
    return total / shape.rows
