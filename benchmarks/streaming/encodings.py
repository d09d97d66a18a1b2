"""The formats that records come in: as a producer writes them, and as a loop of one's own reads them.

Libraries are imported where they are used: each contender has an environment of its own.
"""

import io
import json
from collections.abc import Callable
from typing import Any

from benchmarks.streaming.shapes import Field

Write = Callable[[dict[str, Any]], bytes]
Read = Callable[[bytes], dict[str, Any]]
_AVRO = {"string": "string", "int64": "long", "float32": "float", "float64": "double"}
_PROTO = {"string": "string", "int64": "int64", "float32": "float", "float64": "double"}


def told(kind: str, fields: tuple[Field, ...]) -> str:
    """Return what a pipeline says of the format."""
    if kind == "json":
        return "json"
    schema = json.dumps(_avro_schema(fields)) if kind == "avro" else _proto_text(fields)
    return f"{{kind: {kind}, schema: '{schema}'}}"


def _avro_schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    types = ({"type": "array", "items": _AVRO[each.type]} if each.size else _AVRO[each.type] for each in fields)
    named = [{"name": each.name, "type": found} for each, found in zip(fields, types, strict=True)]
    return {"type": "record", "name": "Record", "fields": named}


def _proto_text(fields: tuple[Field, ...]) -> str:
    lines = (
        f"{'repeated ' if each.size else ''}{_PROTO[each.type]} {each.name} = {number};"
        for number, each in enumerate(fields, 1)
    )
    return f'syntax = "proto3"; message Record {{ {" ".join(lines)} }}'


def _message(fields: tuple[Field, ...]) -> Any:
    """Return the class that protoc would make."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="record.proto", syntax="proto3")
    message = file.message_type.add(name="Record")
    for number, each in enumerate(fields, 1):
        label = FieldDescriptorProto.LABEL_REPEATED if each.size else FieldDescriptorProto.LABEL_OPTIONAL
        kind = FieldDescriptorProto.Type.Value(f"TYPE_{_PROTO[each.type].upper()}")
        message.field.add(name=each.name, number=number, type=kind, label=label)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("Record"))


def writer(kind: str, fields: tuple[Field, ...]) -> Write:
    """Return what writes a record."""
    if kind == "avro":
        import fastavro

        schema = fastavro.parse_schema(_avro_schema(fields))

        def write(record: dict[str, Any]) -> bytes:
            data = io.BytesIO()
            fastavro.schemaless_writer(data, schema, record)
            return data.getvalue()

        return write
    if kind == "protobuf":
        made = _message(fields)
        return lambda record: bytes(made(**record).SerializeToString())
    return lambda record: json.dumps(record).encode()


def reader(kind: str, fields: tuple[Field, ...]) -> Read:
    """Return what reads a record, as somebody would who wants values that JSON has; JSON by orjson."""
    if kind == "avro":
        import fastavro

        schema = fastavro.parse_schema(_avro_schema(fields))

        def read(value: bytes) -> dict[str, Any]:
            data = io.BytesIO(value)
            record = fastavro.schemaless_reader(data, schema, None)
            if data.tell() != len(value):
                raise ValueError("bytes are left behind the record")
            assert isinstance(record, dict)
            return record

        return read
    if kind == "protobuf":
        made = _message(fields)
        singles, lists = [each.name for each in fields if not each.size], [each.name for each in fields if each.size]

        def take(value: bytes) -> dict[str, Any]:
            message = made.FromString(value)
            record = {name: getattr(message, name) for name in singles}
            return record | {name: list(getattr(message, name)) for name in lists}

        return take
    import orjson

    loads: Read = orjson.loads
    return loads
