"""Files of rows through a SELECT: which columns are read, and as what."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from headrace_data.backfill import timed
from headrace_data.errors import FileInvalid
from headrace_data.files import rows_of_file
from headrace_data.records import RecordChecker
from headrace_data.spec import Stream

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
