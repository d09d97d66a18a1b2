"""For each format what writes a row in it: the rows of one stream, written by other code than reads them."""

from __future__ import annotations

import csv
import io
import json
import random
import struct
import wave
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

DOCUMENT: Final = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: samples}}
stream:
  topic: samples
  format: {format}
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: name, type: string, role: slice, nullable: true}}
    - {{name: amount, type: float64, role: feature}}
    - {{name: sold, type: bool, role: label}}
prepare: {{}}
train:
  network: {{kind: mlp, hidden: [4]}}
"""


def document_with(fields: str) -> str:
    """Return the document with other fields."""
    before, _, rest = DOCUMENT.partition("    - {{name: id")
    return before.rstrip() + fields + "prepare:" + rest.partition("prepare:")[2]


ROWS: Final[list[dict[str, Any]]] = [
    {"id": 1, "name": "a", "amount": 1.5, "sold": True},
    {"id": -(2**40), "name": 'ü, "x"\n;', "amount": -0.25, "sold": False},
    {"id": 3, "name": None, "amount": 1e200, "sold": True},
]


class Registered:
    """Schemas by id and by version, as a registry tells them; counts how often it is asked."""

    def __init__(self, by_id: Mapping[int, Any], versions: Mapping[tuple[str, int], Any] | None = None) -> None:
        self._by_id = dict(by_id)
        self._versions = versions or {}
        self.asked = 0

    def add(self, number: int, document: Any) -> None:
        self._by_id[number] = document

    def by_id(self, number: int) -> Any:
        self.asked += 1
        return self._by_id.get(number)

    def by_guid(self, guid: str) -> Any:
        return self.by_id(int(UUID(guid)))

    def by_version(self, subject: str, version: int) -> Any:
        self.asked += 1
        return self._versions.get((subject, version))


@dataclass(frozen=True)
class Sample:
    """A format as a spec has it, and what a producer writes."""

    format: str
    write: Callable[[Mapping[str, Any]], bytes]
    schemas: Registered | None = None
    document: str = DOCUMENT
    rows: Sequence[dict[str, Any]] = field(default_factory=lambda: ROWS)
    text: str = ""
    """The schema that rows are known to be written with."""


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode()


def _csv(row: Mapping[str, Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=";").writerow("" if value is None else str(value) for value in row.values())
    return text.getvalue().encode()


def _text(row: Mapping[str, Any]) -> bytes:
    return str(row["name"] or "none").encode()


AVRO: Final = {
    "type": "record",
    "name": "Sale",
    "namespace": "acme",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"], "default": None},
        {"name": "amount", "type": "double"},
        {"name": "sold", "type": "boolean"},
    ],
}
REGISTRY: Final = "registry: {url: http://schemas}"


def _avro(row: Mapping[str, Any]) -> bytes:
    name = row["name"]
    text = avro_long(0) if name is None else avro_long(1) + avro_text(name)
    return avro_long(row["id"]) + text + struct.pack("<d", row["amount"]) + bytes([row["sold"]])


def avro_text(text: str) -> bytes:
    """Return a text in Avro."""
    data = text.encode()
    return avro_long(len(data)) + data


def avro_long(value: int) -> bytes:
    """Return a whole number in Avro: zigzag, seven bits a byte."""
    left, found = (value << 1) ^ (value >> 63), bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*found, left])


PROTO: Final = """
syntax = "proto3";
package acme;
message Sale {
  int64 id = 1;
  optional string name = 2;
  double amount = 3;
  bool sold = 4;
}
"""


def _protobuf(row: Mapping[str, Any]) -> bytes:
    name = b"" if row["name"] is None else b"\x12" + proto_text(row["name"])
    amount = b"\x19" + struct.pack("<d", row["amount"])
    return b"\x08" + varint(row["id"]) + name + amount + (b"\x20\1" if row["sold"] else b"")


def proto_text(text: str) -> bytes:
    """Return a text in Protobuf."""
    return varint(len(text.encode())) + text.encode()


def varint(value: int) -> bytes:
    """Return a whole number in Protobuf: seven bits a byte, of two's complement in 64 bits."""
    left, found = value % 2**64, bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*found, left])


def framed(number: int, value: bytes) -> bytes:
    """Return a value behind the id of its schema."""
    return b"\0" + number.to_bytes(4, "big") + value


_PICTURES: Final = """
    - {{name: pixels, type: uint8, shape: [2, 3], role: feature}}
    - {{name: width, type: int64, role: group}}
    - {{name: height, type: int64, role: label}}
"""
_PICTURE_ROWS: Final = [
    {"pixels": [0, 1, 2, 253, 254, 255], "width": 3, "height": 2},
    {"pixels": [9] * 6, "width": 3, "height": 2},
    {"pixels": [10, 20, 30, 40, 50, 60], "width": 3, "height": 2},
]


def _png(row: Mapping[str, Any]) -> bytes:
    return png(row["width"], row["height"], bytes(row["pixels"]))


def png(width: int, height: int, pixels: bytes, channels: int = 1, bits: int = 8) -> bytes:
    """Return a PNG of gray pixels, or of red, green and blue ones, row by row."""
    size = len(pixels) // height if pixels else 0
    lines = b"".join(b"\0" + pixels[at : at + size] for at in range(0, len(pixels), size or 1))
    head = struct.pack(">IIBBBBB", width, height, bits, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


_SOUNDS: Final = """
    - {{name: samples, type: float32, shape: [4], role: feature}}
    - {{name: rate, type: int64, role: group}}
    - {{name: seconds, type: float64, role: label}}
"""
_SOUND_ROWS: Final = [
    {"samples": [0.0, 0.5, -0.5, 0.25], "rate": 8000, "seconds": 0.0005},
    {"samples": [-1.0, -1.0, -1.0, 0.75], "rate": 8000, "seconds": 0.0005},
    {"samples": [0.0] * 4, "rate": 8000, "seconds": 0.0005},
]


def _wav(row: Mapping[str, Any]) -> bytes:
    return wav([int(each * 2**15) for each in row["samples"]], row["rate"])


def wav(samples: Sequence[int], rate: int, channels: int = 1) -> bytes:
    """Return a WAV of samples of 16 bits, channel by channel."""
    data = io.BytesIO()
    with wave.open(data, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return data.getvalue()


SAMPLES: Final[Mapping[str, Sample]] = {
    "json": Sample("json", _json),
    "json-schema": Sample("json-schema", lambda row: framed(7, _json(row))),
    "json-schema framed": Sample(
        f"{{kind: json-schema, {REGISTRY}}}",
        lambda row: framed(7, _json(row)),
        Registered({7: {"schema": "{}", "schemaType": "JSON"}}),
        text="{}",
    ),
    "csv": Sample("{kind: csv, delimiter: ;}", _csv),
    "avro": Sample("{kind: avro, schema: '" + json.dumps(AVRO) + "'}", _avro, text=json.dumps(AVRO)),
    "avro framed": Sample(
        f"{{kind: avro, {REGISTRY}}}",
        lambda row: framed(7, _avro(row)),
        Registered({7: {"schema": json.dumps(AVRO)}}),
        text=json.dumps(AVRO),
    ),
    "protobuf": Sample(
        "{kind: protobuf, schema: '" + PROTO.replace("\n", " ") + "'}", _protobuf, text=PROTO.replace("\n", " ")
    ),
    "protobuf framed": Sample(
        f"{{kind: protobuf, {REGISTRY}}}",
        lambda row: framed(9, b"\0" + _protobuf(row)),
        Registered({9: {"schema": PROTO, "schemaType": "PROTOBUF"}}),
        text=PROTO,
    ),
    "text": Sample("{kind: text, field: name}", _text),
    "image": Sample("image", _png, document=document_with(_PICTURES), rows=_PICTURE_ROWS),
    "sound": Sample("{kind: sound, rate: 8000}", _wav, document=document_with(_SOUNDS), rows=_SOUND_ROWS),
}


RICH_AVRO: Final = {
    "type": "record",
    "name": "Rich",
    "fields": [
        {"name": "list", "type": {"type": "array", "items": ["null", "double", "string"]}},
        {"name": "map", "type": {"type": "map", "values": "bytes"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 4}},
        {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["NONE", "RED"]}},
        {"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [{"name": "deep", "type": "int"}]}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
    ],
}
"""Types of Avro that become other values."""
RICH_PROTO: Final = """
syntax = "proto3";
package acme;
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message First { message Inner { int32 deep = 1; } }
message Rich {
  enum Colour { NONE = 0; RED = 1; }
  uint64 large = 1;
  optional int32 maybe = 2;
  bytes raw = 3;
  Colour colour = 4;
  repeated float list = 5;
  repeated bytes raws = 6;
  map<int32, Colour> map = 7;
  map<bool, First.Inner> inners = 8;
  First.Inner inner = 9;
  oneof either { string text = 10; bool flag = 11; }
  google.protobuf.Timestamp at = 12;
  google.protobuf.Duration took = 13;
  google.protobuf.DoubleValue wrapped = 14;
  google.protobuf.Struct more = 15;
  Rich next = 16;
}
"""
"""Types of Protobuf that become other values."""


def mutated(value: bytes, chance: random.Random) -> bytes:
    """Return bytes that were changed, cut, doubled or lengthened in a few places."""
    data = bytearray(value)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0 if data:
                data[place % len(data)] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[place % len(data)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del data[place : place + chance.randint(1, 8)]
            case 3:
                data[place:place] = data[place : place + 8]
            case _:
                data[place:place] = chance.randbytes(chance.randint(1, 9))
    return bytes(data)
