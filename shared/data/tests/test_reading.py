"""Records that are to be predicted: ingestion's checks, but that a record may lack what a model does not read."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pytest
from headrace_data.json_texts import lines_in, texts_in
from headrace_data.reading import Place, RecordReader, array_of, plain_rows
from headrace_data.records import RecordChecker
from headrace_data.spec import Stream, load_pipeline

FIELDS = [
    {"name": "id", "type": "string", "role": "id"},
    {"name": "width", "type": "float32", "role": "feature"},
    {"name": "count", "type": "int32", "role": "feature", "nullable": True},
    {"name": "ok", "type": "bool", "role": "feature"},
    {"name": "points", "type": "float32", "shape": [2, 1], "role": "feature"},
    {"name": "kind", "type": "int32", "role": "label"},
]
GOOD: dict[str, Any] = {"width": 1.5, "count": 2, "ok": True, "points": [1, 2]}


def stream(prepare: Any = None, **told: Any) -> Stream:
    document = {
        "apiVersion": "headrace/v1",
        "kind": "Pipeline",
        "metadata": {"name": "scans"},
        "stream": {"topic": "scans", "schema": FIELDS, **told},
        "prepare": prepare or {},
        "train": {"network": {"kind": "mlp", "hidden": [8]}, "epochs": 1},
    }
    return load_pipeline(json.dumps(document)).stream


def record(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


class Message(NamedTuple):
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = 0


def test_a_record_may_lack_what_a_model_does_not_read() -> None:
    reader = RecordReader(stream(time="at"))
    read = reader.read([record(), record(count=None, at="2026-01-02T03:04:05Z", id="a", kind=1)])
    assert (read.places, read.rejected) == ([Place(0), Place(1)], [])
    assert plain_rows(read, reader.stream.features) == [
        {"width": 1.5, "count": 2, "ok": 1, "points": [[1.0], [2.0]]},
        {"width": 1.5, "count": None, "ok": 1, "points": [[1.0], [2.0]]},
    ]
    counts = array_of(read, reader.stream.field("count"), np.dtype(np.float64))
    assert np.array_equal(counts, [2, np.nan], equal_nan=True)
    assert array_of(read, reader.stream.field("points"), np.dtype(np.float32)).shape == (2, 2, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 7},
        {"kind": "x"},
        {"at": "yesterday"},
        {"at": 4e9},
        {"width": None},
        {"points": [1]},
        {"ok": 1},
    ],
)
def test_what_is_there_is_checked_as_in_ingestion(wrong: dict[str, Any]) -> None:
    of = stream(time="at")
    bad = record(**{"id": "a", "kind": 1, "at": 1e9, **wrong})
    expected = RecordChecker(of).check([bad], [0], [0], now_s=2e9).rejected
    found = RecordReader(of).read([record(), bad, record()], now_s=2e9)
    assert [(place, each.rule, each.field, each.reason) for place, each in found.rejected] == [
        (Place(1), each.rule, each.field, each.reason) for each in expected
    ]
    assert found.places == [Place(0), Place(2)]


def test_messages_tell_what_a_select_reads_beside_records() -> None:
    select = "$key AS id, CAST($headers['w'] AS DOUBLE) AS width, NULL AS kind, $timestamp AS count, ok, points"
    reader = RecordReader(stream(select=select.replace("NULL", "CAST(NULL AS INTEGER)")))
    read = reader.read([record()], [Message(b"a", (("w", b"2.5"),), 7)])
    assert plain_rows(read, reader.stream.fields)[0] == {
        "id": "a",
        "width": 2.5,
        "count": 7,
        "ok": 1,
        "points": [[1.0], [2.0]],
        "kind": None,
    }


def test_lines_of_a_message_are_records_of_their_own() -> None:
    reader = RecordReader(stream(format={"kind": "json", "lines": True}))
    read = reader.read([record() + b"\n\n" + b"no\n" + record(), record()])
    assert read.places == [Place(0), Place(0, 3), Place(1)]
    assert [(place, each.rule) for place, each in read.rejected] == [(Place(0, 2), "json")]


def test_personal_fields_are_treated_and_need_no_key() -> None:
    texts = [*FIELDS, {"name": "text", "type": "string", "role": "feature"}]
    personal = {"key": "none", "fields": {"id": "hash", "text": "mask"}}
    of = stream({"transform": {"text": {"encode": "hash"}}}, schema=texts, personal=personal)
    read = RecordReader(of).read(
        [record(id="a", text="write to a@example.org"), record(id="a", text="x", width="wide")]
    )
    assert plain_rows(read, [of.field("text")]) == [{"text": "write to [email]"}]
    ((_, told),) = read.rejected
    assert told.reason == "width: expected a value of type float32, got what is withheld"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b' {"a":\n1} ', [b' {"a":\n1} ']),
        (b'{"a":1}\n\n{"a":1,"a":2}\r\n', [b'{"a":1}', b'{"a":1,"a":2}\r']),
        (b' [ {"a":1,"a":2} ,\n NaN,"]", [1, 2]] ', [b'{"a":1,"a":2}', b"NaN", b'"]"', b"[1, 2]"]),
        (b"[]", []),
        (b"no", [b"no"]),
    ],
)
def test_records_in_a_text_keep_their_bytes(body: bytes, expected: list[bytes]) -> None:
    assert texts_in(body) == expected
    assert lines_in(b"a\n \nb") == [b"a", b"b"]


@pytest.mark.parametrize("body", [b"[", b"[1", b"[1,]", b"[1 2]", b"[1] 2", b"[" * 100_000, b"[\xff]"])
def test_an_array_that_is_broken_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        texts_in(body)
