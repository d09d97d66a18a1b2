"""Avro: what becomes of its types, which schemas are read, and what is refused before it does harm."""

from __future__ import annotations

import io
import json
import math
import random
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import numpy as np
import pytest
from headrace_data.canonical import sha256_digest
from headrace_data.columns import plain
from headrace_data.decoders import decoder_of
from headrace_data.formats import Undecodable
from headrace_data.formats.avro import compile_avro
from headrace_data.formats.decoding import KnowsWriters
from headrace_data.formats.envelopes import Unwrapped
from headrace_data.formats.schemas import Schema, SchemaInvalid
from headrace_data.records import RecordChecker
from headrace_data.rejections import Rejection
from headrace_data.spec import SpecInvalid, Stream, load_pipeline

from .format_samples import (
    AVRO,
    DOCUMENT,
    REGISTRY,
    ROWS,
    SAMPLES,
    Registered,
    avro_long,
    document_with,
    framed,
    mutated,
)

WRITE = SAMPLES["avro"].write


def record(*types: Any) -> dict[str, Any]:
    fields = [{"name": f"f{place}", "type": each} for place, each in enumerate(types)]
    return {"type": "record", "name": "R", "fields": fields}


def written(schema: Any, row: Any) -> bytes:
    data = io.BytesIO()
    fastavro.schemaless_writer(data, schema, row)
    return data.getvalue()


def read(schema: Any, value: bytes) -> dict[str, Any]:
    return compile_avro(Schema(json.dumps(schema)))(value)


def _stream() -> Stream:
    return load_pipeline(DOCUMENT.format(format=f"{{kind: avro, {REGISTRY}}}")).stream


def decode(schemas: Any, *values: bytes) -> tuple[list[dict[str, Any]], list[Rejection]]:
    rejected: list[Rejection] = []
    return decoder_of(_stream(), schemas).decode(values, 0, rejected)[0], rejected


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ("int", 7, 7),
        ("float", 0.5, 0.5),
        ("bytes", b"\xff\0", "/wA="),
        ({"type": "fixed", "name": "F", "size": 2}, b"ab", "YWI="),
        ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, "b", "b"),
        ({"type": "array", "items": "int"}, [1, 2], [1, 2]),
        ({"type": "map", "values": "bytes"}, {"a": b"x"}, {"a": "eA=="}),
        (["null", "bytes"], None, None),
        (record("int", ["null", {"type": "long", "logicalType": "timestamp-millis"}]), None, None),
        ({"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}, Decimal("-12.30"), "-12.30"),
        ({"type": "int", "logicalType": "date"}, date(2026, 11, 30), "2026-11-30"),
        ({"type": "long", "logicalType": "time-micros"}, time(1, 2, 3, 4), "01:02:03.000004"),
        (
            {"type": "long", "logicalType": "timestamp-micros"},
            datetime(2026, 11, 30, 1, 2, 3, 4, UTC),
            "2026-11-30T01:02:03.000004Z",
        ),
        (
            {"type": "long", "logicalType": "local-timestamp-millis"},
            datetime(2026, 11, 30, 1, 2, 3),  # noqa: DTZ001 - it has none
            "2026-11-30T01:02:03",
        ),
        ({"type": "string", "logicalType": "uuid"}, UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ],
)
def test_what_becomes_of_a_type(schema: Any, value: Any, expected: Any) -> None:
    if isinstance(schema, dict) and schema["type"] == "record":
        schema, value, expected = {**schema, "name": "Inner"}, {"f0": 1, "f1": None}, {"f0": 1, "f1": None}
    assert read(record(schema), written(record(schema), {"f0": value})) == {"f0": expected}


def test_times_deep_inside_become_texts() -> None:
    stamp = {"type": "long", "logicalType": "timestamp-millis"}
    schema = record({"type": "array", "items": {**record(stamp, "int"), "name": "Inner"}})
    value = written(schema, {"f0": [{"f0": datetime(2026, 1, 1, tzinfo=UTC), "f1": 1}]})
    assert read(schema, value) == {"f0": [{"f0": "2026-01-01T00:00:00Z", "f1": 1}]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (record("string"), avro_long(2**40) + b"abc"),
        (record("string"), avro_long(-5) + b"abc"),
        (record("string"), avro_long(1) + b"\xff"),
        (record(["null", "int"]), avro_long(5)),
        (record({"type": "array", "items": "int"}), avro_long(2**60) + b"\2"),
        (record({"type": "long", "logicalType": "timestamp-micros"}), avro_long(2**62)),
        (record("int"), b"\2\2"),
        (record("double"), b"\0\0"),
    ],
)
def test_bytes_that_are_none_of_the_schema(schema: Any, value: bytes) -> None:
    with pytest.raises(Undecodable, match="expected a R in Avro, got") as told:
        read(schema, value)
    assert "0x" not in str(told.value), "equal faults have equal reasons"


def doubled(depth: int) -> dict[str, Any]:
    """Return a type of no bytes that is written out 2 ** depth times."""
    inner: Any = {"type": "record", "name": "N0", "fields": []}
    for place in range(1, depth):
        fields = [{"name": "a", "type": inner}, {"name": "b", "type": f"N{place - 1}"}]
        inner = {"type": "record", "name": f"N{place}", "fields": fields}
    return record(inner)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}, "themselves, got N"),
        (record({"type": "array", "items": "null"}), "got one of such that take none"),
        (record({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}), "that take none"),
        (doubled(40), "expected at most 100000 parts"),
        ("long", "expected a record of Avro"),
        ({"type": "record", "name": "N", "fields": [{"name": "a", "type": "unknown"}]}, "got none: UnknownType"),
        ({"type": "record"}, "expected a schema of Avro, got none"),
    ],
)
def test_schemas_that_nothing_is_read_with(schema: Any, reason: str) -> None:
    with pytest.raises(SchemaInvalid, match=reason):
        compile_avro(Schema(json.dumps(schema)))


def test_a_schema_in_a_document_is_looked_at() -> None:
    told = "{kind: avro, schema: '" + json.dumps(record("number")) + "'}"
    with pytest.raises(SpecInvalid, match=r"stream.format.schema: expected a schema of Avro, got none"):
        load_pipeline(DOCUMENT.format(format=told))
    with pytest.raises(SpecInvalid, match=r"stream.format: expected either schema or registry"):
        load_pipeline(DOCUMENT.format(format="{kind: avro}"))


def test_records_of_several_schemas_stand_side_by_side() -> None:
    fields: Any = AVRO["fields"]
    grown = {**AVRO, "fields": [*fields, {"name": "tags", "type": {"type": "array", "items": "string"}}]}
    without = {**AVRO, "fields": [field for field in fields if field["name"] != "name"]}
    row = ROWS[0]
    schemas = Registered({each: {"schema": json.dumps(told)} for each, told in enumerate([AVRO, grown, without])})
    values = [
        framed(0, WRITE(row)),
        framed(1, written(grown, {**row, "tags": ["x"]})),
        framed(2, written(without, {key: row[key] for key in row if key != "name"})),
        framed(0, WRITE(row)),
    ]
    rows, rejected = decode(schemas, *values)
    assert (rows, rejected) == ([row, {**row, "tags": ["x"]}, {k: row[k] for k in row if k != "name"}, row], [])
    assert schemas.asked == 3
    wrapped = Unwrapped(reader := decoder_of(_stream(), schemas), "cloudevents")
    assert isinstance(reader, KnowsWriters)
    assert wrapped.writers(values) == set(), "of values that were decoded"
    reader.decode(values, 0, [])
    assert len(wrapped.writers([None, b"", b"\0", framed(9, b""), *values])) == 3


WAVES = record(
    "string",
    {"type": "array", "items": "float"},
    ["null", "long"],
    {"type": "array", "items": "double"},
    [{"type": "array", "items": "double"}, "null"],
)


def test_lists_of_floats_are_the_same_as_arrays() -> None:
    slow = compile_avro(Schema(json.dumps(WAVES)))
    quick = compile_avro(Schema(json.dumps(WAVES)), {"f1", "f3", "f4"})
    rows = [
        {"f0": "a", "f1": [0.1, -0.0, math.nan], "f2": None, "f3": [1e300], "f4": [0.5]},
        {"f0": "", "f1": [1.0] * 200, "f2": 2**40, "f3": [0.5, math.inf], "f4": None},
        {"f0": "b", "f1": [], "f2": None, "f3": [2.0], "f4": [3.0, 4.0]},
    ]
    good = [written(WAVES, row) for row in rows]
    # Two blocks, the second with its size in bytes before it.
    floats = b"\x02" + bytes(4) + b"\x03\x10" + struct.pack("<2f", 1.5, -0.0) + b"\x00"
    good.append(b"\x02a" + floats + b"\x00" + b"\x02" + bytes(8) + b"\x00" + b"\x02")
    assert [type(quick(value)["f1"]) for value in good] == [np.ndarray, np.ndarray, list, np.ndarray]
    chance = random.Random(7)
    for value in [*good, *(mutated(chance.choice(good), chance) for _ in range(3_000))]:
        assert _told(quick, value) == _told(slow, value)


def test_fields_of_one_name_are_read_by_their_types() -> None:
    # Nobody should have them, but their bytes could be those of two lists as well.
    twice = record("string", {"type": "array", "items": "float"})
    twice["fields"][1]["name"] = "f0"
    value = b"\x02a" + b"\x04" + b"\x00\x00\x00\x02" + struct.pack("<f", 1) + b"\x00"
    assert len(read(twice, value)["f0"]) == 2
    assert _told(compile_avro(Schema(json.dumps(twice)), {"f0"}), value) == repr(read(twice, value))


def _told(read: Callable[[bytes], dict[str, Any]], value: bytes) -> str:
    try:
        return repr({name: plain(found) for name, found in read(value).items()})
    except Undecodable as error:
        return str(error)


@pytest.mark.parametrize(("element", "kept"), [("float32", 2), ("float64", 3), ("int32", 0)])
@pytest.mark.parametrize("may_be_null", [False, True])
def test_a_record_with_an_array_is_checked_as_one_with_a_list(element: str, kept: int, may_be_null: bool) -> None:
    fields = f"""
    - {{{{name: f0, type: string, role: id}}}}
    - {{{{name: f1, type: {element}, role: feature, shape: [2, 2], nullable: true}}}}
    - {{{{name: f2, type: bool, role: label}}}}
"""
    plainly = record("string", {"type": "array", "items": "double"}, "boolean")
    if may_be_null:
        plainly["fields"][1]["type"] = ["null", plainly["fields"][1]["type"]]
    # Where types have names, lists are read as lists.
    named = {**plainly, "fields": [*plainly["fields"], {"name": "g", "type": {**record("null"), "name": "G"}}]}
    rows: list[list[float] | None] = [
        [1.0, 2.5, -0.0, 3.0],
        [1.0, 2.0],
        [1.0, math.nan, 0.0, 0.0],
        [1e200, 1.0, 1.0, 1.0],
        [0.0] * 4,
    ]
    rows += [None, [4.0] * 4] * may_be_null
    kept += 2 * may_be_null if kept else may_be_null
    checked = []
    for schema in (plainly, named):
        values = [written(schema, {"f0": str(at), "f1": row, "f2": True, "g": {}}) for at, row in enumerate(rows)]
        told = document_with(fields).format(format="{kind: avro, schema: '" + json.dumps(schema) + "'}")
        checked.append(RecordChecker(load_pipeline(told).stream).check(values, [0] * len(rows), range(len(rows))))
    arrays, lists = checked
    assert (arrays.batch, arrays.rejected) == (lists.batch, lists.rejected)
    assert (len(arrays.batch), len(arrays.rejected)) == (kept, len(rows) - kept)


def test_an_id_that_is_unknown_rejects_its_record_and_is_asked_for_again() -> None:
    schemas = Registered({})
    stream = load_pipeline(DOCUMENT.format(format=f"{{kind: avro, {REGISTRY}}}")).stream
    decoder, rejected = decoder_of(stream, schemas), list[Rejection]()
    value = framed(3, WRITE(ROWS[0]))
    assert decoder.decode([value], 0, rejected)[0] == []
    assert (rejected[0].rule, "id 3: the registry knows none" in rejected[0].reason) == ("schema", True)
    schemas.add(3, {"schema": json.dumps(AVRO)})
    assert decoder.decode([value], 0, rejected)[0] == [ROWS[0]]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"schema": "{}", "schemaType": "PROTOBUF"}, "expected one of type AVRO, got 'PROTOBUF'"),
        ({"schema": 5}, "told no text"),
        ({"schema": "[" * 100_000}, "expected a schema of Avro, got none"),
        ({"schema": " " * 600_000}, "expected at most 524288 characters"),
        ({"schema": "{}", "references": [{"name": "A"}]}, "expected references of name"),
        ({"schema": "{}", "references": [{"name": "A", "subject": "a", "version": 9}]}, "version 9 of 'a'"),
        ({"schema": "{}", "references": [{"name": "C", "subject": "circle", "version": 1}]}, "none in a circle"),
    ],
)
def test_a_schema_that_cannot_be_read_with_rejects_records_alone(document: Any, reason: str) -> None:
    circle = {"schema": "{}", "references": [{"name": "C", "subject": "circle", "version": 1}]}
    schemas = Registered({1: document, 2: {"schema": json.dumps(AVRO)}}, {("circle", 1): circle})
    rows, rejected = decode(schemas, framed(1, b"x"), framed(2, WRITE(ROWS[1])))
    assert (rows, [each.rule for each in rejected], reason in rejected[0].reason) == ([ROWS[1]], ["schema"], True)


def test_what_a_schema_refers_to_is_found() -> None:
    name = {"type": "record", "name": "Name", "namespace": "acme", "fields": [{"name": "first", "type": "string"}]}
    person = {**AVRO, "name": "Person", "fields": [{"name": "who", "type": "acme.Name"}]}
    references = [{"name": "acme.Name", "subject": "names", "version": 2}]
    schemas = Registered(
        {4: {"schema": json.dumps(person), "references": references}}, {("names", 2): {"schema": json.dumps(name)}}
    )
    assert decode(schemas, framed(4, avro_long(1) + b"a"))[0] == [{"who": {"first": "a"}}]


def test_a_registry_that_is_away_is_nobody_elses_fault() -> None:
    class Away(Registered):
        def by_id(self, number: int) -> Any:
            raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        decode(Away({}), framed(1, b"x"))


def test_a_number_that_is_none_is_rejected_without_a_warning() -> None:
    signalling = WRITE(ROWS[0]).replace(struct.pack("<d", 1.5), b"\1\0\0\0\0\0\xf0\x7f")
    pipeline = load_pipeline(DOCUMENT.format(format=SAMPLES["avro"].format))
    checked = RecordChecker(pipeline.stream).check([signalling, WRITE(ROWS[1])], [0, 0], [0, 1])
    assert [(each.position, each.rule, each.field) for each in checked.rejected] == [(0, "overflow", "amount")]


def test_a_header_names_the_schema_by_its_guid() -> None:
    checker = RecordChecker(_stream(), schemas=Registered({7: {"schema": json.dumps(AVRO)}}))
    told = [("other", b""), ("__value_schema_id", b"\1" + UUID(int=7).bytes)]
    messages = [Told(told), Told([]), Told([("__value_schema_id", b"\1")]), Told(told)]
    values = [WRITE(ROWS[0]), framed(7, WRITE(ROWS[1])), WRITE(ROWS[0]), None]
    checked = checker.check(values, [0] * 4, range(4), messages=messages)
    assert checked.batch.column("id").to_pylist() == [1, -(2**40)]
    assert [(each.position, each.rule) for each in checked.rejected] == [(2, "avro"), (3, "avro")]
    assert checked.writer_schemas == {sha256_digest(json.dumps(AVRO).encode())}


class Told:
    """A message with headers."""

    key = None
    timestamp_ms = 0

    def __init__(self, headers: list[tuple[str, bytes]]) -> None:
        self.headers = headers
