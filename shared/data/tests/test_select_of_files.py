"""Files of rows through a SELECT: which columns are read, and as what."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from headrace_data.backfill import Backfill, timed
from headrace_data.errors import FileInvalid
from headrace_data.files import Rows, rows_of_file
from headrace_data.history import History
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.spec import Stream, load_pipeline

from .conftest import MemoryStore

STREAM = Stream.model_validate_json(
    json.dumps(
        {
            "topic": "t",
            "select": """ "Kunden-Nr" AS id, TRY_CAST(replace("Betrag (EUR)", ',', '.') AS DOUBLE) AS amount,
                coalesce(nullif(Ort, '-'), Stadt) AS city, n AS n, tags[2] AS tag -- a comment""",
            "schema": [
                {"name": "id", "type": "string", "role": "id"},
                {"name": "amount", "type": "float64", "role": "feature"},
                {"name": "city", "type": "string", "role": "feature", "nullable": True},
                {"name": "n", "type": "int32", "role": "feature", "nullable": True},
                {"name": "tag", "type": "string", "role": "feature", "nullable": True},
            ],
        }
    )
)


def rows(data: bytes, file_format: str, stream: Stream = STREAM) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for piece in rows_of_file(io.BytesIO(data), file_format, stream):
        checked = RecordChecker(stream).check(piece.values, [0] * len(piece.values), piece.numbers)
        assert checked.rejected == []
        found += checked.batch.to_pylist()
    return [{name: value for name, value in row.items() if name not in ("_partition", "_index")} for row in found]


def test_a_spreadsheets_csv_is_read_with_the_names_that_it_has() -> None:
    text = 'Kunden-Nr;Betrag (EUR);Ort;n;unread;tags\n007;1,50;-;3;x;"[""a"", ""b""]"\n008;2;Köln;;y;\n'
    assert rows(text.encode(), "csv") == [
        {"id": "007", "amount": 1.5, "city": None, "n": 3, "tag": "b", "_offset": 0, "_time": None},
        {"id": "008", "amount": 2.0, "city": "Köln", "n": None, "tag": None, "_offset": 1, "_time": None},
    ]


def test_parquet_is_read_by_the_same_names() -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"Kunden-Nr": ["a"], "Betrag (EUR)": [1.5], "Stadt": ["Bonn"], "other": [1]}), file)
    [row] = rows(file.getvalue(), "parquet")
    assert (row["id"], row["amount"], row["city"], row["n"]) == ("a", 1.5, "Bonn", None)


def test_a_column_that_each_row_needs_is_missed_by_its_own_name() -> None:
    with pytest.raises(FileInvalid, match=r"expected a column 'Betrag \(EUR\)'"):
        rows(b"Kunden-Nr,Ort\n1,x\n", "csv")


def test_the_time_of_a_file_may_be_a_column_that_the_select_does_not_name() -> None:
    stream = timed(STREAM, "seen at")
    [row] = rows(b"Kunden-Nr,Betrag (EUR),seen at\n1,2,2026-07-01T00:00:00Z\n", "csv", stream)
    assert row["_time"].isoformat() == "2026-07-01T00:00:00+00:00"
    assert timed(stream, "seen at").select == stream.select


def test_another_time_takes_the_place_of_the_selects_own() -> None:
    own = STREAM.model_copy(
        update={"time": "bought", "select": f"{(STREAM.select or '').partition('--')[0]}, b AS bought"}
    )
    stream = timed(own, "seen at")
    [row] = rows(b"Kunden-Nr,Betrag (EUR),seen at\n1,2,2026-07-01T00:00:00Z\n", "csv", stream)
    assert (row["amount"], row["_time"].isoformat()) == (2.0, "2026-07-01T00:00:00+00:00")
    assert timed(own, "bought") == own


def test_a_stream_of_csv_is_read_as_a_file_of_it() -> None:
    columns = ["Kunden-Nr", "Betrag (EUR)", "Ort", "Stadt", "n"]
    told = {"format": {"kind": "csv", "columns": columns, "delimiter": ";"}}
    stream = Stream.model_validate_json(json.dumps({**STREAM.plain(), **told}))
    for line in (b"123;1,50;1E5;;7", b"007;2.50;-;1.0;", b"1.10;;12345678901234567890;x;1"):
        checked = RecordChecker(stream).check([line], [0], [0])
        file = ";".join(columns).encode() + b"\n" + line
        [piece] = rows_of_file(io.BytesIO(file), "csv", STREAM)
        of_file = RecordChecker(STREAM).check(piece.values, [0], [0])
        assert (checked.batch, checked.rejected) == (of_file.batch, of_file.rejected)
    [row] = RecordChecker(stream).check([b"123;1,50;1E5;;7"], [0], [0]).batch.to_pylist()
    assert (row["id"], row["amount"], row["city"], row["n"]) == ("123", 1.5, "1E5", 7)


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ({"select": "id, yes, said AS note"}, b'{"id": 1, "yes": true, "said": "a@example.org"}'),
        ({"envelope": "debezium"}, b'{"op": "c", "after": {"id": 1, "yes": true, "note": "a@example.org"}}'),
        ({}, b'{"id": 1, "yes": true, "note": "a@example.org"}'),
    ],
)
def test_a_letter_has_not_the_text_for_which_its_row_was_refused(told: dict[str, str], value: bytes) -> None:
    document = {
        "apiVersion": "headrace/v1",
        "kind": "Pipeline",
        "metadata": {"name": "notes"},
        "stream": {"topic": "t", **told, "schema": FIELDS},
        "prepare": {
            "clean": {"personal": {"fields": ["note"], "email": "reject"}},
            "transform": {"note": {"encode": "hash"}},
        },
        "train": {"network": {"kind": "mlp", "hidden": [4]}},
    }
    pipeline = load_pipeline(json.dumps(document))
    done = Backfill(pipeline, MemoryStore(), History(pipeline="notes"), pipeline.stream, 2e9)
    nowhere = Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})
    done.take(done.source("t", "sha256:" + "0" * 64), [Rows([0], [value])], nowhere)
    [refused] = done.refused
    assert refused.rejection.rule == "personal"
    assert refused.value == (None if told else b'{"id":1,"yes":true}')


FIELDS = [
    {"name": "id", "type": "int64", "role": "id"},
    {"name": "yes", "type": "bool", "role": "label"},
    {"name": "note", "type": "string", "role": "feature"},
]
