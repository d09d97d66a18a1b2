"""Files of rows, as people keep history: CSV, JSON Lines, Parquet and Arrow.

Each row becomes the JSON object that a producer would have sent, so that it is checked by the same rules. A file is
read in pieces, whatever its size. Rows are numbered from 0: in JSON Lines the lines, blank ones too, and in CSV those
behind the header.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, BinaryIO, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from headrace_data.csv_files import DELIMITERS, Header, csv_rows, header_of, text_lines
from headrace_data.errors import FileInvalid
from headrace_data.formats.cells import LONGEST_ROW, cell_value
from headrace_data.formats.json_lines import lines_of
from headrace_data.records import Times
from headrace_data.select.needs import needs_of
from headrace_data.select.values import Message
from headrace_data.spec import Stream

AT_ONCE: Final = 1_024
"""Rows that are read at a time."""
_BOM: Final = b"\xef\xbb\xbf"
_ARROW_FILE: Final = b"ARROW1"
"""What a file of Arrow begins with, and a stream does not."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a source, in order."""

    numbers: Sequence[int]
    """The number of each."""
    values: Sequence[bytes | None]
    """Each as a JSON object, as a producer would send it; the checks refuse what is none."""
    times: Times | None = field(default=None)
    """When what they tell of happened; None where the source itself does not say."""
    faults: Mapping[int, str] = field(default_factory=dict)
    """Why some are no rows of the source, by position."""
    messages: Sequence[Message] | None = field(default=None)
    """What each came in; None where they came in no messages."""
    indexes: Sequence[int] | None = field(default=None)
    """The position of each in what its number names; None where all are alone there."""

    def cut(self, most: int) -> Iterator[Rows]:
        """Yield the rows in pieces of so many, in order."""
        if len(self.numbers) <= most:
            yield self
            return
        for start in range(0, len(self.numbers), most):
            end = start + most
            yield Rows(
                self.numbers[start:end],
                self.values[start:end],
                None if self.times is None else self.times[start:end],
                {at - start: fault for at, fault in self.faults.items() if start <= at < end},
                None if self.messages is None else self.messages[start:end],
            )


@dataclass(frozen=True)
class Wanted:
    """What is read of a file."""

    texts: Mapping[str, bool]
    """The names of the columns, and whether each holds texts: a CSV file does not say."""
    needed: Sequence[str]
    """Those that must be there."""
    numbered: Collection[str] = ()
    """The names of all columns of a stream in CSV, where those that came twice have numbers."""

    @staticmethod
    def of(stream: Stream) -> Wanted:
        """Return what a stream's fields, and its event time, are read from."""
        if stream.select is not None:
            return Wanted._selected(stream)
        texts = {each.name: each.type == "string" for each in stream.fields}
        needed = [each.name for each in stream.fields if not each.nullable]
        if stream.time is not None:
            texts.setdefault(stream.time, False)
            needed.append(stream.time)
        return Wanted(texts, list(dict.fromkeys(needed)), columns_of(stream))

    @staticmethod
    def _selected(stream: Stream) -> Wanted:
        """Return what a stream's SELECT reads; of several columns that one value is made of any may be there."""
        needs = needs_of(stream)
        always = [each.name for each in stream.fields if not each.nullable]
        always += [stream.time] if stream.time is not None else []
        needed = [needs.of[name][0] for name in always if len(needs.of[name]) == 1]
        return Wanted(needs.texts, list(dict.fromkeys(needed)), columns_of(stream))

    def present(self, columns: Sequence[str]) -> list[str]:
        """Return which of these columns are read. Raises FileInvalid when one is missing or is there twice."""
        if missing := [name for name in self.needed if name not in columns]:
            raise FileInvalid(f"expected a column {_listed(missing)}, got {_listed(columns)}")
        found = [name for name in columns if name in self.texts]
        self.require_one(sorted({name for name in found if found.count(name) > 1}))
        return found

    def require_one(self, repeated: Sequence[str]) -> None:
        """Raise FileInvalid for columns of one name, unless the stream knows which is which."""
        if twice := [name for name in repeated if f"{name} 2" not in self.numbered]:
            raise FileInvalid(f"expected each column once, got {_listed(twice)} more than once")


def columns_of(stream: Stream) -> Sequence[str]:
    """Return the names of the columns of a stream in CSV, none of one that does not tell them."""
    return stream.format_told.get("columns") or ()


def apart(rows: Rows) -> Rows:
    """Return messages as the records on their lines."""
    found = [(at, number, line) for at, value in enumerate(rows.values) for number, line in lines_of(value)]
    places = [at for at, _, _ in found]
    return replace(
        rows,
        numbers=[rows.numbers[at] for at in places],
        values=[line for _, _, line in found],
        times=None if rows.times is None else rows.times[places],
        messages=None if rows.messages is None else [rows.messages[at] for at in places],
        indexes=[number for _, number, _ in found],
    )


def rows_of_file(file: BinaryIO, file_format: str, stream: Stream) -> Iterator[Rows]:
    """Yield the rows of a file, oldest first as they lie.

    Raises FileInvalid when the format is unknown or the file is not of it, or lacks a column that each row needs.
    """
    yield from rows_of(file, file_format, Wanted.of(stream))


def rows_of(file: BinaryIO, file_format: str, wanted: Wanted) -> Iterator[Rows]:
    """Yield what is wanted of a file's rows. Raises as `rows_of_file`."""
    read = FORMATS.get(file_format)
    if read is None:
        raise FileInvalid(f"expected a file of {', '.join(FORMATS)}, got {file_format!r}")
    try:
        yield from read(file, wanted)
    except (csv.Error, pa.ArrowException, OSError, ValueError) as error:
        raise FileInvalid(f"expected {file_format}, got what cannot be read as that: {error}") from error


def _json_lines(file: BinaryIO, _wanted: Wanted) -> Iterator[Rows]:
    number = 0
    while lines := _lines(file):
        if number == 0:
            lines[0] = lines[0].removeprefix(_BOM)
        # A blank line is no record, as at the end of many files.
        kept = [(number + at, text) for at, line in enumerate(lines) if (text := line.strip())]
        number += len(lines)
        if kept:
            yield Rows([at for at, _ in kept], [text for _, text in kept])


def _lines(file: BinaryIO) -> list[bytes]:
    lines: list[bytes] = []
    size = 0
    while len(lines) < AT_ONCE and size < LONGEST_ROW and (line := file.readline(LONGEST_ROW + 1)):
        if len(line) > LONGEST_ROW:
            raise FileInvalid(f"expected lines of at most {LONGEST_ROW} bytes, got a longer one")
        lines.append(line)
        size += len(line)
    return lines


def _csv(file: BinaryIO, wanted: Wanted) -> Iterator[Rows]:
    # Bytes that are no UTF-8 are kept as they are, for the checks to refuse the row.
    text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
    try:
        csv.field_size_limit(LONGEST_ROW)
        lines = text_lines(text)
        header = header_of(lines)
        delimiter, columns = _columns(header, wanted)
        rows = csv_rows(lines, header, delimiter, len(columns))
        read = wanted.present(columns)
        wanted.require_one([name for name in header.repeated(delimiter) if name in read])
        places = [(name, columns.index(name), wanted.texts[name]) for name in read]
        number = 0
        while found := list(islice(rows, AT_ONCE)):
            numbers = [number + at for at, (cells, _) in enumerate(found) if cells]
            number += len(found)
            yield Rows(numbers, *_csv_values([row for row in found if row[0]], places))
    finally:
        text.detach()


def _columns(header: Header, wanted: Wanted) -> tuple[str, list[str]]:
    """Return what divides the columns, and their names: whatever shows most that are read."""
    if not header.text:
        raise FileInvalid("expected a header with the names of the columns, got an empty file")
    found = {each: header.columns(each) for each in ((header.delimiter,) if header.delimiter else DELIMITERS)}
    delimiter = max(
        found, key=lambda each: (set(wanted.needed) <= {*found[each]}, len(wanted.texts.keys() & {*found[each]}))
    )
    return delimiter, found[delimiter]


def _csv_values(
    rows: Sequence[tuple[list[str], str]], places: Sequence[tuple[str, int, bool]]
) -> tuple[list[bytes], None, dict[int, str]]:
    """Return rows as JSON, no times, and what is wrong with those that are none of the table's."""
    values: list[bytes] = []
    for cells, fault in rows:
        row: Any = cells if fault else {name: cell_value(cells[of], is_text=text) for name, of, text in places}
        try:
            values.append(orjson.dumps(row))
        except orjson.JSONEncodeError:
            values.append(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    return values, None, {at: fault for at, (_, fault) in enumerate(rows) if fault}


def _parquet(file: BinaryIO, wanted: Wanted) -> Iterator[Rows]:
    parquet = pq.ParquetFile(file)
    read = wanted.present(parquet.schema_arrow.names)
    yield from _of_batches(parquet.iter_batches(AT_ONCE, columns=read, use_threads=False), read)


def _arrow(file: BinaryIO, wanted: Wanted) -> Iterator[Rows]:
    is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE
    file.seek(0)
    with pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file) as reader:
        read = wanted.present(reader.schema.names)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
        pieces = (batch.slice(start, AT_ONCE) for batch in batches for start in range(0, len(batch), AT_ONCE))
        yield from _of_batches(pieces, read)


def _of_batches(batches: Iterable[pa.RecordBatch], read: Sequence[str]) -> Iterator[Rows]:
    number = 0
    for batch in batches:
        columns = [plain_column(name, batch.column(name)) for name in read]
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        yield Rows(
            range(number, number + len(batch)),
            [orjson.dumps(dict(zip(read, row, strict=True)), option=orjson.OPT_SERIALIZE_NUMPY) for row in rows],
        )
        number += len(batch)


def plain_column(name: str, column: pa.Array) -> pa.Array:
    """Return a column of what JSON has. Raises FileInvalid for bytes and others that have no one form there."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain_column(name, column.dictionary_decode())
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    element = kind
    while any(is_kind(element) for is_kind in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)):
        element = element.value_type
    if not any(is_kind(element) for is_kind in _PLAIN):
        raise FileInvalid(f"expected numbers, booleans, texts or times in column {name!r}, got {kind}")
    return column


_PLAIN: Final[Sequence[Callable[[pa.DataType], bool]]] = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_date,
)

FORMATS: Final[Mapping[str, Callable[[BinaryIO, Wanted], Iterator[Rows]]]] = {
    "csv": _csv,
    "jsonl": _json_lines,
    "parquet": _parquet,
    "arrow": _arrow,
}
"""How files are read, by their format."""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return (shown or "none") + (f" and {len(names) - 20} more" if len(names) > 20 else "")
