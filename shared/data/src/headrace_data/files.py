"""Files of rows, as people keep history: CSV, JSON Lines and Parquet.

Each row becomes the JSON object that a producer would have sent, so that it is checked by the same rules. A file is
read in pieces, whatever its size. Rows are numbered from 0: in JSON Lines the lines, blank ones too, and in CSV those
behind the header.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from headrace_data.errors import FileInvalid
from headrace_data.formats.cells import LONGEST_ROW, cell_value
from headrace_data.records import Times
from headrace_data.select.needs import needs_of
from headrace_data.select.values import Message
from headrace_data.spec import Stream

AT_ONCE: Final = 1_024
"""Rows that are read at a time."""
_DELIMITERS: Final = (",", ";", "\t")
_BOM: Final = b"\xef\xbb\xbf"


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
        return Wanted(texts, list(dict.fromkeys(needed)))

    @staticmethod
    def _selected(stream: Stream) -> Wanted:
        """Return what a stream's SELECT reads; of several columns that one value is made of any may be there."""
        needs = needs_of(stream)
        always = [each.name for each in stream.fields if not each.nullable]
        always += [stream.time] if stream.time is not None else []
        needed = [needs.of[name][0] for name in always if len(needs.of[name]) == 1]
        return Wanted(needs.texts, list(dict.fromkeys(needed)))

    def present(self, columns: Sequence[str]) -> list[str]:
        """Return which of these columns are read. Raises FileInvalid when one is missing or is there twice."""
        if missing := [name for name in self.needed if name not in columns]:
            raise FileInvalid(f"expected a column {_listed(missing)}, got {_listed(columns)}")
        found = [name for name in columns if name in self.texts]
        if twice := sorted({name for name in found if found.count(name) > 1}):
            raise FileInvalid(f"expected each column once, got {_listed(twice)} more than once")
        return found


def rows_of_file(file: BinaryIO, file_format: str, stream: Stream) -> Iterator[Rows]:
    """Yield the rows of a file, oldest first as they lie.

    Raises FileInvalid when the format is unknown or the file is not of it, or lacks a column that each row needs.
    """
    read = FORMATS.get(file_format)
    if read is None:
        raise FileInvalid(f"expected a file of {', '.join(FORMATS)}, got {file_format!r}")
    try:
        yield from read(file, Wanted.of(stream))
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
        reader, columns = _csv_reader(text, wanted)
        read = wanted.present(columns)
        places = [(name, columns.index(name), wanted.texts[name]) for name in read]
        number = 0
        while found := list(islice(reader, AT_ONCE)):
            numbers = [number + at for at, cells in enumerate(found) if cells]
            kept = [cells for cells in found if cells]
            number += len(found)
            yield Rows(numbers, *_csv_rows(kept, places, len(columns)))
    finally:
        text.detach()


def _csv_reader(text: io.TextIOWrapper, wanted: Wanted) -> tuple[Iterator[list[str]], list[str]]:
    """Return a reader behind the header, and the columns: they are divided by what shows all that are needed."""
    lines = _texts(text)
    header = next(lines, "")
    if not header:
        raise FileInvalid("expected a header with the names of the columns, got an empty file")
    for delimiter in _DELIMITERS:
        columns = next(csv.reader([header], delimiter=delimiter, strict=True))
        if set(wanted.needed) <= set(columns):
            return csv.reader(lines, delimiter=delimiter, strict=True), columns
    return iter(()), next(csv.reader([header]))


def _texts(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(LONGEST_ROW + 1):
        if len(line) > LONGEST_ROW:
            raise FileInvalid(f"expected lines of at most {LONGEST_ROW} characters, got a longer one")
        yield line


def _csv_rows(
    rows: list[list[str]], places: list[tuple[str, int, bool]], width: int
) -> tuple[list[bytes], None, dict[int, str]]:
    """Return rows as JSON, no times, and what is wrong with those that are of another number of columns."""
    faults = {at: f"expected {width} columns, got {len(cells)}" for at, cells in enumerate(rows) if len(cells) != width}
    values: list[bytes] = []
    for at, cells in enumerate(rows):
        row: Any = cells if at in faults else {name: cell_value(cells[of], is_text=text) for name, of, text in places}
        try:
            values.append(orjson.dumps(row))
        except orjson.JSONEncodeError:
            values.append(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    return values, None, faults


def _parquet(file: BinaryIO, wanted: Wanted) -> Iterator[Rows]:
    parquet = pq.ParquetFile(file)
    read = wanted.present(parquet.schema_arrow.names)
    number = 0
    for batch in parquet.iter_batches(AT_ONCE, columns=read, use_threads=False):
        columns = [_plain(name, batch.column(name)) for name in read]
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        yield Rows(
            range(number, number + len(batch)),
            [orjson.dumps(dict(zip(read, row, strict=True)), option=orjson.OPT_SERIALIZE_NUMPY) for row in rows],
        )
        number += len(batch)


def _plain(name: str, column: pa.Array) -> pa.Array:
    """Return a column of what JSON has. Raises FileInvalid for bytes and others that have no one form there."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(name, column.dictionary_decode())
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
}
"""How files are read, by their format."""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return (shown or "none") + (f" and {len(names) - 20} more" if len(names) > 20 else "")
