"""One contract for every format."""

from __future__ import annotations

import json
import random
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from headrace_data.backfill import Backfill
from headrace_data.decoders import decoder_of
from headrace_data.files import Rows
from headrace_data.formats import FORMATS, Decoder
from headrace_data.history import History
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker, Rejection
from headrace_data.spec import Pipeline, SpecInvalid, load_pipeline
from headrace_data.spec.formats import FORMAT_KINDS
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import MemoryStore
from .format_samples import DOCUMENT, ROWS, SAMPLES, mutated

GARBAGE = [None, b"", b"\0", b"\0\0\0\0\7", b"\xff\xfe{", b"[1", b'"']


@cache
def pipeline_of(kind: str) -> Pipeline:
    return load_pipeline(SAMPLES[kind].document.format(format=SAMPLES[kind].format))


@cache
def decoder(kind: str) -> Decoder:
    return decoder_of(pipeline_of(kind).stream, SAMPLES[kind].schemas)


def written(kind: str) -> list[bytes]:
    return [SAMPLES[kind].write(row) for row in SAMPLES[kind].rows]


def expected(kind: str) -> list[dict[str, Any]]:
    return [_expected(kind, row) for row in SAMPLES[kind].rows]


def _expected(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"name": row["name"] or "none"} if kind == "text" else row


def test_every_format_of_the_spec_is_in_the_table_and_has_a_sample() -> None:
    assert set(FORMAT_KINDS) == FORMATS.keys() == {name.split()[0] for name in SAMPLES}


@pytest.mark.parametrize("kind", SAMPLES)
def test_rows_come_as_they_were_written(kind: str) -> None:
    rejected: list[Rejection] = []
    records, positions = decoder(kind).decode(written(kind), 5, rejected)
    assert (records, list(positions), rejected) == (expected(kind), [5, 6, 7], [])
    assert [list(map(type, record.values())) for record in records] == [
        list(map(type, row.values())) for row in expected(kind)
    ]


@pytest.mark.parametrize("kind", SAMPLES)
def test_garbage_rejects_itself_alone(kind: str) -> None:
    good = written(kind)
    values = [good[0], *GARBAGE, good[1]]
    rejected: list[Rejection] = []
    records, positions = decoder(kind).decode(values, 100, rejected)
    by_place = dict(zip(positions, records, strict=True))
    assert [by_place[100], by_place[100 + len(values) - 1]] == expected(kind)[:2]
    assert {each.position for each in rejected}.isdisjoint(by_place)
    assert len(rejected) + len(by_place) == len(values)
    assert 101 in {each.position for each in rejected}, "no value is no row"
    assert 102 in {each.position for each in rejected} or kind == "protobuf", (
        "an empty value is a row of defaults alone"
    )
    assert all(each.rule and "expected" in each.reason and ", got " in each.reason for each in rejected)


@pytest.mark.parametrize("kind", SAMPLES)
def test_any_bytes_are_a_row_or_a_rejection(kind: str) -> None:
    good = written(kind)
    reader = decoder(kind)

    changed = st.integers(0, 2**32).map(lambda seed: mutated(good[seed % len(good)], random.Random(seed)))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.one_of(st.none(), st.binary(max_size=40), changed), max_size=6))
    def holds(values: list[bytes | None]) -> None:
        rejected: list[Rejection] = []
        records, positions = reader.decode([good[0], *values], 0, rejected)
        assert sorted([*positions, *(each.position for each in rejected)]) == list(range(len(values) + 1))
        assert next(iter(positions)) == 0
        json.dumps(records)  # nothing is in a row that JSON has not

    holds()


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_checker_takes_the_format(kind: str) -> None:
    pipeline = pipeline_of(kind)
    values = written(kind)
    checked = RecordChecker(pipeline.stream, schemas=SAMPLES[kind].schemas).check([*values, None], [0] * 4, range(4))
    if kind == "text":  # the other fields are missing
        assert [each.rule for each in checked.rejected] == ["missing", "missing", "missing", "text"]
    else:
        assert (
            checked.batch.drop_columns(["_partition", "_offset", "_index", "_time"]).to_pylist() == SAMPLES[kind].rows
        )
        assert [each.position for each in checked.rejected] == [3]
    text = SAMPLES[kind].text
    assert list(checked.writer_schemas) == ([f"sha256:{sha256(text.encode()).hexdigest()}"] if text else [])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"1;a;2.5", "expected a row of 4 cells divided by ';', got 3 cells"),
        (b"1;a;2.5;true\n2;b;2.5;true", "got 2 rows"),
        (b'1;"a;2.5;true', "got what is none: unexpected end of data"),
        (b"1;\xff;2.5;true", "expected a text in UTF-8, got invalid start byte at byte 2"),
    ],
)
def test_what_is_no_row_of_csv(value: bytes, reason: str) -> None:
    rejected: list[Rejection] = []
    assert decoder("csv").decode([value, b"1;a;2.5;true"], 0, rejected)[1] == [1]
    assert (rejected[0].rule, reason in rejected[0].reason) == ("csv", True), rejected


def test_cells_are_what_the_schema_has_for_them() -> None:
    rejected: list[Rejection] = []
    records, _ = decoder("csv").decode([b"007;12;1e3;TRUE\r\n", b"7;;[1];no"], 0, rejected)
    assert records == [
        {"id": "007", "name": "12", "amount": 1000.0, "sold": True},
        {"id": 7, "name": None, "amount": [1], "sold": "no"},
    ]


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("xml", "stream.format: expected json, json-schema"),
        ("{kind: csv, delimiter: ',,'}", "stream.format.delimiter"),
        ("{kind: csv, quote: ','}", "stream.format: expected another quote than the delimiter"),
        ("{kind: csv, columns: [id, id]}", "stream.format.columns: expected each column once, got id again"),
        ("{kind: csv, columns: [id, amount]}", r"stream.schema\[3\].name: expected one of stream.format.columns"),
    ],
)
def test_what_a_format_cannot_be_told(told: str, problem: str) -> None:
    with pytest.raises(SpecInvalid, match=problem):
        load_pipeline(DOCUMENT.format(format=told))


def test_a_spec_without_a_format_keeps_its_digest() -> None:
    text = DOCUMENT.format(format="json")
    assert load_pipeline(text).digest == load_pipeline(text.replace("  format: json\n", "")).digest
    assert b'"format":"json"' in load_pipeline(text).canonical_json()


@pytest.mark.parametrize("kind", ["csv", "avro framed"])
def test_a_topic_is_taken_into_a_history_as_its_producers_wrote_it(kind: str) -> None:
    pipeline = pipeline_of(kind)
    nowhere = Provenance(cluster_id="c", topic="samples", topic_id="t", sources=(), clean_ranges=(), rejected={})
    done = Backfill(
        pipeline, MemoryStore(), History(pipeline="samples"), pipeline.stream, 2e9, schemas=SAMPLES[kind].schemas
    )
    values = [*(SAMPLES[kind].write(row) for row in ROWS[:2]), b"\0"]
    done.take(done.source("before", "sha256:" + "0" * 64), [Rows([0, 1, 2], values)], nowhere)
    assert (done.rows, dict(done.rejected)) == (2, {kind.split()[0]: 1})
    assert [refused.value for refused in done.refused] == [b"\0"]
