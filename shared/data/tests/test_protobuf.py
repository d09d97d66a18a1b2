"""Protobuf: what becomes of its types, which schemas are read, and what bytes are none."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from headrace_data.decoders import decoder_of
from headrace_data.formats import Undecodable, proto_schemas
from headrace_data.formats.proto_schemas import file_of
from headrace_data.formats.protobuf import compile_framed, compile_protobuf
from headrace_data.formats.schemas import Schema, SchemaInvalid
from headrace_data.rejections import Rejection
from headrace_data.spec import SpecInvalid, load_pipeline

from .format_samples import DOCUMENT, PROTO, REGISTRY, Registered, framed
from .format_samples import RICH_PROTO as RICH

EMPTY: dict[str, Any] = {
    "large": 0, "maybe": None, "raw": "", "colour": "NONE", "list": [], "raws": [], "map": {}, "inners": {},
    "inner": None, "text": None, "flag": None, "at": None, "took": None, "wrapped": None, "more": None, "next": None,
}  # fmt: skip


@cache
def rich() -> type[Message]:
    return GetMessageClass(file_of(Schema(RICH)).message_types_by_name["Rich"])


@cache
def reader() -> Callable[[bytes], dict[str, Any]]:
    return compile_protobuf(Schema(RICH), "acme.Rich")


def read(**fields: Any) -> dict[str, Any]:
    return reader()(rich()(**fields).SerializeToString())


def test_what_was_not_sent_is_its_default_or_missing() -> None:
    assert reader()(b"") == EMPTY


@pytest.mark.parametrize(
    ("field", "sent", "expected"),
    [
        ("large", 2**64 - 1, 2**64 - 1),
        ("maybe", 0, 0),
        ("raw", b"\xff\0", "/wA="),
        ("colour", 1, "RED"),
        ("colour", 9, 9),
        ("list", [0.5, -1], [0.5, -1]),
        ("raws", [b"a"], ["YQ=="]),
        ("map", {-1: 1}, {"-1": "RED"}),
        ("flag", False, False),
        ("at", timestamp_pb2.Timestamp(seconds=1_764_374_400, nanos=250_000_000), "2025-11-29T00:00:00.250Z"),
        ("took", duration_pb2.Duration(seconds=1, nanos=500_000_000), 1.5),
        ("wrapped", wrappers_pb2.DoubleValue(value=0), 0.0),
        ("more", struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=1)}), {"a": 1.0}),
    ],
)
def test_what_becomes_of_a_type(field: str, sent: Any, expected: Any) -> None:
    if isinstance(sent, Message):
        # The message is of this process's pool, the field of one of its own.
        kind: Any = rich().DESCRIPTOR.fields_by_name[field].message_type
        made = GetMessageClass(kind)
        sent = made.FromString(sent.SerializeToString())
    assert read(**{field: sent}) == {**EMPTY, field: expected}


def test_messages_become_objects() -> None:
    found = read(inner={"deep": 3}, inners={True: {"deep": 4}}, next={"large": 5})
    assert (found["inner"], found["inners"], found["next"]["large"]) == ({"deep": 3}, {"true": {"deep": 4}}, 5)


def nested(depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        size = len(value)
        value = b"\x82\x01" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + value
    return value


@pytest.mark.parametrize(
    "value",
    [
        b"\x08",
        b"\x52\x7f",
        b"\x52\x01\xff",  # a text that is no UTF-8
        b"\xf8\x07\x01",  # fields that nobody knows
        rb"hello",
        nested(1_000),
        b"\x62\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10\x00",  # a time of the year 292 billion
    ],
)
def test_bytes_that_are_none_of_the_schema(value: bytes) -> None:
    with pytest.raises(Undecodable, match=r"expected a acme.Rich in Protobuf, got bytes"):
        reader()(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('syntax = "proto3"; message A { strange x = 1; }', r'headrace_records.proto:1:32: "strange" is not defined'),
        ('import "other.proto"; message A {}', "other.proto: File not found"),
        ('import "../../../etc/passwd"; message A {}', "got none"),
        ('syntax = "proto3"; enum A { B = 0; }', "expected the place of a message"),
        ("c3R1ZmY=", "expected the descriptor of headrace_records.proto in base64, got none"),
    ],
)
def test_schemas_that_nothing_is_read_with(text: str, reason: str) -> None:
    with pytest.raises(SchemaInvalid, match=reason):
        compile_protobuf(Schema(text))


def test_names_of_references_stay_in_their_folder() -> None:
    with pytest.raises(SchemaInvalid, match="expected names of files with letters"):
        compile_protobuf(Schema(PROTO, {"../outside.proto": "message A {}"}))


def test_a_compiler_that_was_killed_says_nothing_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *a, **_: subprocess.CompletedProcess(a, -9, b"", b""))
    with pytest.raises(ChildProcessError, match="signal 9"):
        compile_protobuf(Schema(PROTO))


def test_a_compiler_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proto_schemas, "COMPILE_S", 0.001)
    with pytest.raises(SchemaInvalid, match="compiles within"):
        compile_protobuf(Schema(PROTO))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (b"\0", EMPTY.keys()),
        (b"\2\0", EMPTY.keys()),
        (b"\2\2", {"deep"}),
        (b"\4\2\0", {"own"}),
    ],
)
def test_a_value_says_of_which_type_it_is(places: bytes, expected: Any) -> None:
    text = RICH.replace("message First { message Inner { int32 deep = 1; } }", "").replace("First.Inner", "Other")
    other = "message Other { int32 deep = 1; message Own { int32 own = 1; } }"
    assert framed_reader(text + other)(places).keys() == expected


@cache
def framed_reader(text: str) -> Callable[[bytes], dict[str, Any]]:
    return compile_framed(Schema(text))


@pytest.mark.parametrize("value", [b"", b"\4", b"\1", b"\2\x7f", b"\x80" * 11, b"\x7e" * 99])
def test_places_that_are_none(value: bytes) -> None:
    with pytest.raises(Undecodable, match="place"):
        framed_reader(PROTO)(value)


def test_what_a_schema_refers_to_is_found_in_texts_and_in_descriptors() -> None:
    names = 'syntax = "proto3"; package acme; message Name { string first = 1; }'
    main = 'syntax = "proto3"; import "acme/names.proto"; import "google/protobuf/timestamp.proto"; message Person {'
    main += "acme.Name who = 1; google.protobuf.Timestamp at = 2; }"
    stream = load_pipeline(DOCUMENT.format(format=f"{{kind: protobuf, {REGISTRY}}}")).stream
    file = file_of(Schema(main, {"acme/names.proto": names}))
    texts = {"main": main, "names": names}
    binary = {"main": encoded(file), "names": encoded(file.dependencies[0])}
    for told in (texts, binary):
        references = [{"name": "acme/names.proto", "subject": "names", "version": 1}]
        schemas = Registered(
            {1: {"schema": told["main"], "schemaType": "PROTOBUF", "references": references}},
            {("names", 1): {"schema": told["names"], "schemaType": "PROTOBUF"}},
        )
        rejected: list[Rejection] = []
        rows, _ = decoder_of(stream, schemas).decode([framed(1, b"\0\x0a\x03\x0a\1a")], 0, rejected)
        assert (rows, rejected) == ([{"who": {"first": "a"}, "at": None}], [])


def encoded(file: Any) -> str:
    found = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(found)
    return base64.b64encode(found.SerializeToString()).decode()


def test_a_schema_in_a_document_is_looked_at() -> None:
    told = "{kind: protobuf, schema: 'message A { }', message: B}"
    with pytest.raises(SpecInvalid, match=r"stream.format.schema: expected one of A as message, got 'B'"):
        load_pipeline(DOCUMENT.format(format=told))
    with pytest.raises(SpecInvalid, match=r"stream.format: expected no message beside a registry"):
        load_pipeline(DOCUMENT.format(format=f"{{kind: protobuf, {REGISTRY}, message: A}}"))
