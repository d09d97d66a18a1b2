"""Files that people have: their texts, and the rows that a pipeline is drafted from."""

import io
import json
from collections.abc import Callable

import pyarrow as pa
import pytest
from headrace_data.errors import FileInvalid
from headrace_data.file_samples import sample_of
from headrace_data.file_texts import digest_of, marked_encoding, recoded, require_encoding
from headrace_data.files import rows_of_file
from headrace_data.spec import Stream

FIELDS = [{"name": "n", "type": "float64", "role": "feature"}, {"name": "city", "type": "string", "role": "label"}]
STREAM = Stream.model_validate_json(json.dumps({"topic": "t", "schema": FIELDS}))


def arrow(make: Callable[..., pa.ipc.RecordBatchStreamWriter], table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with make(sink, table.schema) as writer:
        writer.write_table(table, 3)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("text", "delimiter", "columns", "first"),
    [
        ("a,b\r\n1,x\r\n", ",", ["a", "b"], {"a": 1, "b": "x"}),
        ("sep=|\na|b\n1|\n", "|", ["a", "b"], {"a": 1, "b": None}),
        ('\ufeff"a";"b, c"\n"1,5";"x;y"\n2;z\n', ";", ["a", "b, c"], {"a": "1,5", "b, c": "x;y"}),
        ("a\tb\n007\tTRUE\n008\tfalse\n", "\t", ["a", "b"], {"a": "007", "b": True}),
        (',a\n0,"[1,2]"\n', ",", ["column 1", "a"], {"column 1": 0, "a": [1, 2]}),
        ("a,b,a,a\n1,x,2,3\n", ",", ["a", "b", "a 2", "a 3"], {"a": 1, "b": "x", "a 2": 2, "a 3": 3}),
        ("a,b\n1,x,,\n", ",", ["a", "b"], {"a": 1, "b": "x"}),
        ('a,"b\n(in kg)"\r\n1,"x\ny"\r\n', ",", ["a", "b\n(in kg)"], {"a": 1, "b\n(in kg)": "x\ny"}),
        ("a;b;c\n1.250;0,5;7.5\n", ";", ["a", "b", "c"], {"a": "1.250", "b": "0,5", "c": 7.5}),
        ("a,b\n12345678901234567890,1\n7,2\n", ",", ["a", "b"], {"a": "12345678901234567890", "b": 1}),
        ("a;b\n1.250;0.5\n", ";", ["a", "b"], {"a": 1.25, "b": 0.5}),
    ],
)
def test_cells_of_a_column_are_numbers_where_all_are(
    text: str, delimiter: str, columns: list[str], first: dict[str, object]
) -> None:
    sample = sample_of(io.BytesIO(text.encode()), "csv", 10)
    assert (sample.delimiter, list(sample.columns), sample.records[0]) == (delimiter, columns, first)
    assert (sample.whole, sample.seen) == (True, len(sample.records))


def test_a_sample_is_of_the_whole_file_and_the_same_each_time() -> None:
    text = "n,city\n" + "".join(f"{number},c{number // 1000}\n" for number in range(2000)) + "1,2,3\n"
    samples = [sample_of(io.BytesIO(text.encode()), "csv", 2001 if whole else 100) for whole in (True, False, False)]
    whole, part, again = samples
    assert (whole.whole, whole.seen, len(whole.records), whole.odd) == (True, 2001, 2000, 1)
    numbers = [record["n"] for record in part.records]
    assert (part.whole, numbers) == (False, sorted(numbers))
    assert numbers == [record["n"] for record in again.records]
    assert 30 < sum(number < 1000 for number in numbers) < 70
    assert part.as_sent(STREAM)[:1] == [b'{"n":%d,"city":"c%d"}' % (numbers[0], numbers[0] // 1000)]


def test_columns_of_one_name_are_told_apart_by_a_stream_that_numbers_them() -> None:
    data = b"n,city,n\n1,a,2\n"
    with pytest.raises(FileInvalid, match="expected each column once, got 'n' more than once"):
        list(rows_of_file(io.BytesIO(data), "csv", STREAM))
    told = {"topic": "t", "schema": FIELDS, "format": {"kind": "csv", "columns": ["n", "city", "n 2"]}}
    numbered = Stream.model_validate_json(json.dumps(told))
    (rows,) = rows_of_file(io.BytesIO(data), "csv", numbered)
    assert rows.values == [b'{"n":1,"city":"a"}']


def test_a_header_of_very_many_names_or_lines_is_read_in_time_with_its_length() -> None:
    lines = [*["a," * 10_000 + "\u2028a\n"], *["1," * 10_000 + "1\n"]]
    columns = sample_of(io.BytesIO("".join(lines).encode()), "csv", 1).columns
    assert (len(columns), columns[1], columns[-2:]) == (10_001, "a 2", ["a 10000", "\u2028a"])
    with pytest.raises(FileInvalid):
        sample_of(io.BytesIO(b'a,"b' + b"\n" * 400_000), "csv", 1)


def test_a_line_that_cannot_be_divided_is_a_fault_of_its_own() -> None:
    (rows,) = rows_of_file(io.BytesIO(b'n,city\n1,a\n2,"say "hi" now"\n\n3,c\n'), "csv", STREAM)
    assert (list(rows.numbers), rows.values[0], rows.values[2]) == (
        [0, 1, 3],
        b'{"n":1,"city":"a"}',
        b'{"n":3,"city":"c"}',
    )
    assert rows.faults == {
        1: 'line 3: expected a quote inside a cell in quotes to be doubled, as "", or a delimiter behind the cell'
    }
    assert rows.values[1] == rb'["2,\"say \"hi\" now\""]'


@pytest.mark.parametrize("make", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_is_read_as_a_file_and_as_a_stream(make: Callable[..., pa.ipc.RecordBatchStreamWriter]) -> None:
    table = pa.table({"n": [1.5, None, 2.5, 3.5], "city": ["a", "b", "c", "d"], "raw": [b"x"] * 4})
    data = arrow(make, table)
    pieces = list(rows_of_file(io.BytesIO(data), "arrow", STREAM))
    assert [number for piece in pieces for number in piece.numbers] == [0, 1, 2, 3]
    assert pieces[0].values[1] == b'{"n":null,"city":"b"}'
    sample = sample_of(io.BytesIO(data), "arrow", 10)
    assert (len(sample.records), list(sample.left_out)) == (4, ["raw"])
    lines = sample_of(io.BytesIO(b'{"n": 1}\n\n[1]\n'), "jsonl", 10)
    assert (lines.records, lines.seen, lines.as_sent(STREAM)) == ([{"n": 1}], 2, [b'{"n": 1}', b"[1]"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a\n1\n2\n", "columns divided by comma, semicolon, tab or |, got one in line 1: 'a'"),
        (b"Sales 2025\n\n# of all\na;b\n1;x\n", "in line 1, got 'Sales 2025': line 4 is the first with several cells"),
        (b"a,b\n1,2,3\n", "expected rows, got none, but 1 such as: expected 2 columns, got 3"),
        (b"", "a header with the names of the columns, got none"),
        (b"a,b\n", "expected rows, got none"),
        (b'a,b\n1,x\n2,"x\n3,y\n', "line 3: expected a quote at the end of the cell that begins with one here"),
    ],
)
def test_what_is_no_table_is_told(data: bytes, reason: str) -> None:
    with pytest.raises(FileInvalid, match=reason):
        sample_of(io.BytesIO(data), "csv", 10)


def test_texts_in_other_encodings_are_told_and_read() -> None:
    text = "n;city\r\n1;a\r\n2;Köln, Umsatz in €\r\n"
    for encoding, told in (
        ("windows-1252", "got the byte 0xf6 in line 3. Spreadsheets write windows-1252, in which it says '2;Köln, Um"),
        ("utf-16-le", "got zeros between letters, as in utf-16-le: say --encoding utf-16-le"),
    ):
        data = text.encode(encoding)
        with pytest.raises(FileInvalid, match=told.replace(".", r"\.")):
            digest_of(io.BytesIO(data), is_text=True)
        assert recoded(io.BytesIO(data), encoding).read() == text.encode()
        rows = list(rows_of_file(recoded(io.BytesIO(data), encoding), "csv", STREAM))
        assert rows[0].values[1] == '{"n":2,"city":"Köln, Umsatz in €"}'.encode()
        assert digest_of(io.BytesIO(data)) == digest_of(io.BytesIO(data))
    assert digest_of(io.BytesIO(text.encode()), is_text=True) == digest_of(io.BytesIO(text.encode()))
    marks = [marked_encoding(io.BytesIO(text.encode(each))) for each in ("utf-16", "utf-8", "utf-8-sig", "utf-16-be")]
    assert marks == ["utf-16", "", "", ""]
    for name in ("no-such", "hex"):
        with pytest.raises(FileInvalid, match="expected an encoding such as windows-1252"):
            require_encoding(name)
