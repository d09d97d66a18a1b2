"""A producer as teams have it: confluent-kafka with the serialisers of its schema registry, and nothing of Headrace.

`producer.py KIND GENERATION BROKERS REGISTRY TOPIC START STOP`: sends so many records with the schema of a generation.
The second has a field more, the third one less.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "upb"

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

Serialise = Callable[[dict[str, Any], Any], bytes]
AVRO = {
    "id": {"name": "id", "type": "long"},
    "name": {"name": "name", "type": ["null", "string"], "default": None},
    "x": {"name": "x", "type": "double"},
    "at": {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    "large": {"name": "large", "type": "boolean"},
    "tags": {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
}
PROTO = {
    "id": "int64 id = 1;",
    "name": "optional string name = 2;",
    "x": "double x = 3;",
    "at": "google.protobuf.Timestamp at = 4;",
    "large": "bool large = 5;",
    "tags": "repeated string tags = 6;",
}
JSON = {
    "id": {"type": "integer"},
    "name": {"type": ["string", "null"]},
    "x": {"type": "number"},
    "at": {"type": "string"},
    "large": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}},
}
GENERATIONS = {
    1: ("id", "name", "x", "at", "large"),
    2: ("id", "name", "x", "at", "large", "tags"),
    3: ("id", "x", "at", "large", "tags"),
}


def row(number: int, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return a record: x runs from -1 to 1, and is large above zero."""
    x = (number * 37 % 201 - 100) / 100
    told = {"id": number, "name": f"n{number}" if number % 3 else None, "x": x, "large": x > 0, "tags": ["a", "b"]}
    return {name: told[name] for name in fields if name in told}


def avro(client: SchemaRegistryClient, fields: tuple[str, ...]) -> Serialise:
    """Return what writes records in Avro."""
    schema = {"type": "record", "name": "Sale", "namespace": "acme", "fields": [AVRO[name] for name in fields]}
    serialise = AvroSerializer(client, json.dumps(schema))
    return lambda record, context: serialise({**record, "at": 1_764_374_400_250 + record["id"]}, context)


def protobuf(client: SchemaRegistryClient, fields: tuple[str, ...]) -> Serialise:
    """Return what writes records in Protobuf, by a module that protoc makes."""
    text = 'syntax = "proto3"; package acme; import "google/protobuf/timestamp.proto"; message Sale {'
    folder = tempfile.mkdtemp()
    Path(folder, "sale.proto").write_text(text + " ".join(PROTO[name] for name in fields) + "}")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={folder}", "sale.proto"]
    subprocess.run(command, check=True)
    sys.path.insert(0, folder)
    sale = importlib.import_module("sale_pb2").Sale
    serialise = ProtobufSerializer(sale, client, {"use.deprecated.format": False})

    def write(record: dict[str, Any], context: Any) -> bytes:
        message = sale(**{key: value for key, value in record.items() if value is not None})
        message.at.FromMilliseconds(1_764_374_400_250 + record["id"])
        return bytes(serialise(message, context))

    return write


def json_schema(client: SchemaRegistryClient, fields: tuple[str, ...]) -> Serialise:
    """Return what writes records in JSON behind the id of a JSON schema."""
    schema = {"title": "Sale", "type": "object", "properties": {name: JSON[name] for name in fields}}
    serialise = JSONSerializer(json.dumps(schema), client)
    return lambda record, context: serialise({**record, "at": "2025-11-29T00:00:00.250Z"}, context)


KINDS = {"avro": avro, "protobuf": protobuf, "json-schema": json_schema}


def main(kind: str, generation: str, brokers: str, registry: str, topic: str, start: str, stop: str) -> None:
    """Send records, and wait until the broker has them."""
    fields = GENERATIONS[int(generation)]
    serialise = KINDS[kind](SchemaRegistryClient({"url": registry}), fields)
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    context = SerializationContext(topic, MessageField.VALUE)
    for number in range(int(start), int(stop)):
        producer.produce(topic, serialise(row(number, fields), context), key=str(number))
        producer.poll(0)
    assert producer.flush(60) == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
