"""A hundred thousand mutated messages for each format: each is a row or a rejection, whatever the bytes are."""

from __future__ import annotations

import io
import json
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest
from google.protobuf.message_factory import GetMessageClass
from headrace_data.columns import plain
from headrace_data.formats import Undecodable
from headrace_data.formats.avro import compile_avro
from headrace_data.formats.proto_schemas import file_of
from headrace_data.formats.protobuf import compile_protobuf
from headrace_data.formats.schemas import Schema
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline

sys.path.insert(0, str(Path(__file__).parents[2] / "shared" / "data" / "tests"))

from format_samples import (  # type: ignore[import-not-found]
    RICH_AVRO,
    RICH_PROTO,
    SAMPLES,
    mutated,
)

MESSAGES = 100_000
CHUNK = 1_000


@pytest.mark.parametrize("kind", SAMPLES)
def test_mutated_messages(kind: str) -> None:
    sample, chance = SAMPLES[kind], random.Random(20261130)
    checker = RecordChecker(load_pipeline(sample.document.format(format=sample.format)).stream, schemas=sample.schemas)
    good = [sample.write(row) for row in sample.rows]
    rejected = accepted = 0
    started_s = time.perf_counter()
    for _ in range(MESSAGES // CHUNK):
        values = [mutated(chance.choice(good), chance) for _ in range(CHUNK)]
        checked = checker.check([*good, *values], [0] * (CHUNK + 3), range(CHUNK + 3))
        offsets = checked.batch.column("_offset").to_pylist()
        assert kind == "text" or offsets[:3] == [0, 1, 2], "what came before garbage is there"
        assert sorted([*offsets, *(each.position for each in checked.rejected)]) == list(range(CHUNK + 3))
        json.dumps([each.reason for each in checked.rejected])
        accepted += len(offsets) - (0 if kind == "text" else 3)
        rejected += len(checked.rejected)
    print(f"\n{kind}: {accepted} rows, {rejected} rejected, {time.perf_counter() - started_s:.0f} s")
    assert rejected > MESSAGES // 10


def rich_avro() -> tuple[Callable[[bytes], dict[str, Any]], bytes]:
    row = {
        "list": [None, 0.5, "text"],
        "map": {"a": b"\xff", "b": b""},
        "at": datetime(2026, 11, 30, 1, 2, 3, 4, UTC),
        "day": date(2026, 11, 30),
        "price": Decimal("-12.3000"),
        "colour": "RED",
        "inner": {"deep": 7},
        "id": UUID(int=5),
    }
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(RICH_AVRO), row)
    return compile_avro(Schema(json.dumps(RICH_AVRO))), data.getvalue()


def floats_avro() -> tuple[Callable[[bytes], dict[str, Any]], bytes]:
    """Return what reads lists of floats as arrays, and a value with some."""
    types = ["string", {"type": "array", "items": "float"}, ["null", "long"], {"type": "array", "items": "double"}]
    fields = [{"name": name, "type": each} for name, each in zip("abcd", types, strict=True)]
    schema = {"type": "record", "name": "Waves", "fields": fields}
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(schema), {"a": "x", "b": [0.5] * 70, "c": 7, "d": [1.5, -1]})
    read = compile_avro(Schema(json.dumps(schema)), ["b", "d"])
    return lambda value: {name: plain(found) for name, found in read(value).items()}, data.getvalue()


def rich_protobuf() -> tuple[Callable[[bytes], dict[str, Any]], bytes]:
    made: Any = GetMessageClass(file_of(Schema(RICH_PROTO)).message_types_by_name["Rich"])
    message = made(large=2**63, maybe=0, raw=b"\xff", colour=1, list=[1, 2], raws=[b"a"], text="text")
    message.map[-1] = 1
    message.inners[True].deep = 3
    message.at.FromSeconds(1_764_374_400)
    message.took.FromSeconds(3)
    message.wrapped.value = 0.5
    message.more.update({"a": [1, "b", None]})
    message.next.next.large = 1
    return compile_protobuf(Schema(RICH_PROTO), "acme.Rich"), message.SerializeToString()


@pytest.mark.parametrize("make", [rich_avro, floats_avro, rich_protobuf])
def test_mutated_messages_of_many_types(make: Callable[[], tuple[Callable[[bytes], dict[str, Any]], bytes]]) -> None:
    read, good = make()
    chance = random.Random(20261201)
    rows = 0
    for _ in range(MESSAGES):
        try:
            json.dumps(read(mutated(good, chance)))
            rows += 1
        except Undecodable:
            continue
    print(f"\n{make.__name__}: {rows} rows, {MESSAGES - rows} rejected")
    assert MESSAGES // 100 < rows < MESSAGES
