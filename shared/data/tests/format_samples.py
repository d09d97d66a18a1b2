"""For each format what writes a row in it: the rows of one stream, written by other code than reads them."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

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
ROWS: Final[list[dict[str, Any]]] = [
    {"id": 1, "name": "a", "amount": 1.5, "sold": True},
    {"id": -(2**40), "name": 'ü, "x"\n;', "amount": -0.25, "sold": False},
    {"id": 3, "name": None, "amount": 1e200, "sold": True},
]


@dataclass(frozen=True)
class Sample:
    """A format as a spec has it, and what a producer writes."""

    format: str
    write: Callable[[Mapping[str, Any]], bytes]


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode()


def _csv(row: Mapping[str, Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=";").writerow("" if value is None else str(value) for value in row.values())
    return text.getvalue().encode()


def _text(row: Mapping[str, Any]) -> bytes:
    return str(row["name"] or "none").encode()


SAMPLES: Final[Mapping[str, Sample]] = {
    "json": Sample("json", _json),
    "json-schema": Sample("json-schema", lambda row: b"\0\0\0\0\7" + _json(row)),
    "csv": Sample("{kind: csv, delimiter: ;}", _csv),
    "text": Sample("{kind: text, field: name}", _text),
}


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
