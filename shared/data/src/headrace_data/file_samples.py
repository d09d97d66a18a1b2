"""A sample of a file's rows, as values that a pipeline is drafted from: of the whole file, and not of its beginning.

Cells of CSV say nothing of their type: those of a column are numbers, or true and false, where all of them are, and
else texts.
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, BinaryIO, Final, TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from headrace_data.csv_files import csv_rows, header_of, likely_delimiter, require_header, text_lines
from headrace_data.errors import FileInvalid
from headrace_data.files import FORMATS, Wanted, plain_column, rows_of_file
from headrace_data.formats.cells import LONGEST_ROW, cell_value
from headrace_data.spec import Stream

MOST_BYTES: Final = 256 * 2**20
"""How far a file is read for a sample."""
_LOOKED_AT: Final = 100
"""Lines by which the delimiter of a CSV file is told."""
_SEED: Final = 7
_COMMA: Final = re.compile(r"[+-]?\d+(\.\d{3})*,(\d{1,2}|\d{4,})", re.ASCII)
"""A number with a decimal comma: three digits behind it may be a thousand's."""
_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+", re.ASCII)
_LARGEST: Final = str(2**63 - 1)
"""Digits of the largest whole number."""

T = TypeVar("T")
SizedT = TypeVar("SizedT", bound=str | bytes | None)


@dataclass(frozen=True)
class Sample:
    """Some rows of a file, in their order."""

    records: Sequence[Mapping[str, Any]]
    """What each row holds, by name; what is missing is None or not there."""
    seen: int
    """Rows that it was taken from."""
    whole: bool
    """Whether these are all rows of the file."""
    columns: Sequence[str] = ()
    """Of CSV: the names of the cells, in order."""
    delimiter: str = ""
    """Of CSV: what divides them."""
    comma: bool = False
    """Of CSV: whether decimals stand behind a comma."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Columns that are not read, and why."""
    odd: int = 0
    """Rows of the sample that have another number of cells than the header."""
    as_sent: Callable[[Stream], list[bytes | None]] = field(default=lambda _: [])
    """Returns the rows as a stream would read them of the file, each as JSON."""


def sample_of(file: BinaryIO, file_format: str, count: int) -> Sample:
    """Return `count` rows of a file, or all where it has fewer. Raises FileInvalid."""
    take = _SAMPLES.get(file_format)
    if take is None:
        raise FileInvalid(f"expected a file of {', '.join(_SAMPLES)}, got {file_format!r}")
    try:
        sample = take(file, count)
    except (csv.Error, pa.ArrowException, OSError, ValueError) as error:
        raise FileInvalid(f"expected {file_format}, got what cannot be read as that: {error}") from error
    if not sample.records:
        raise FileInvalid("expected rows, got none")
    return sample


class _Counted(Iterator[SizedT]):
    """Counts the bytes, or letters, of what it yields."""

    def __init__(self, each: Iterator[SizedT]) -> None:
        self._each = each
        self.size = 0

    def __next__(self) -> SizedT:
        found = next(self._each)
        self.size += len(found) if found is not None else 0
        return found


def _drawn(rows: Iterator[T], count: int, read: _Counted[Any]) -> tuple[list[T], int, bool]:
    """Return so many rows in their order, each as likely as any other, how many there were, and whether these are all.

    Algorithm R of Vitter, with a seed, so that a file always gives the same.
    """
    draw, kept, seen, ended = random.Random(_SEED), dict[int, tuple[int, T]](), 0, True  # noqa: S311 - no secret
    for row in rows:
        place = seen if seen < count else draw.randrange(seen + 1)
        if place < count:
            kept[place] = (seen, row)
        seen += 1
        if read.size > MOST_BYTES:
            ended = False
            break
    return [row for _, row in sorted(kept.values(), key=lambda each: each[0])], seen, ended and seen <= count


def _csv(file: BinaryIO, count: int) -> Sample:
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))
    try:
        lines = _Counted(text_lines(text))
        header = header_of(lines)
        first = list(islice(lines, _LOOKED_AT))
        delimiter = likely_delimiter(header, first)
        require_header(header, delimiter, first)
        columns = header.columns(delimiter)
        rows = (row for row in csv_rows(chain(first, lines), header, delimiter, len(columns)) if row[0])
        drawn, seen, whole = _drawn(rows, count, lines)
    finally:
        text.detach()
    sound = [cells for cells, fault in drawn if not fault]
    if not sound and drawn:
        raise FileInvalid(f"expected rows, got none, but {len(drawn)} such as: {drawn[0][1]}")
    comma = any(_has_commas([cells[at] for cells in sound]) for at in range(len(columns)))
    values = [(name, _typed([cells[at] for cells in sound], comma=comma)) for at, name in enumerate(columns)]
    records = [{name: found[at] for name, found in values} for at in range(len(sound))]

    def as_sent(stream: Stream) -> list[bytes | None]:
        again = io.StringIO()
        csv.writer(again, delimiter=delimiter).writerows([columns, *sound])
        pieces = rows_of_file(io.BytesIO(again.getvalue().encode()), "csv", stream)
        return [value for piece in pieces for value in piece.values]

    return Sample(records, seen, whole, columns, delimiter, comma, {}, len(drawn) - len(sound), as_sent)


def _has_commas(cells: Sequence[str]) -> bool:
    """Tell whether most of a column are numbers with a decimal comma."""
    there = [cell for cell in cells if cell.strip()]
    return len(there) > 0 and 2 * sum(_COMMA.fullmatch(cell.strip()) is not None for cell in there) > len(there)


def _typed(cells: Sequence[str], *, comma: bool) -> list[Any]:
    if comma and (dots := [cell for cell in cells if "." in cell]) and all(map(_THOUSANDS.fullmatch, dots)):
        return [cell or None for cell in cells]  # beside decimal commas 1.234 is a thousand
    if any(cell.isdigit() and (len(cell), cell) > (len(_LARGEST), _LARGEST) for cell in cells):
        return [cell or None for cell in cells]  # digits that a number would not keep, such as those of an account
    values = [cell_value(cell, is_text=False) for cell in cells]
    plain = {type(value) for value in values if value is not None} <= {int, float, bool, list}
    return values if plain else [cell or None for cell in cells]


def _json_lines(file: BinaryIO, count: int) -> Sample:
    pieces = FORMATS["jsonl"](file, Wanted({}, ()))
    rows = _Counted(value for piece in pieces for value in piece.values)
    drawn, seen, whole = _drawn(rows, count, rows)
    records = [record for value in drawn if (record := _object(value)) is not None]
    return Sample(records, seen, whole, as_sent=lambda _: drawn)


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        record = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def _columnar(file: BinaryIO, file_format: str, count: int) -> Sample:
    schema = _schema(file, file_format)
    left_out: dict[str, str] = {}
    for kind in schema:
        try:
            plain_column(kind.name, pa.array([], kind.type))
        except FileInvalid:
            left_out[kind.name] = f"{kind.type} is neither number, boolean, text nor time"
    names = [name for name in schema.names if name not in left_out]
    if not names:
        raise FileInvalid("expected columns of numbers, booleans, texts or times, got none")
    pieces = FORMATS[file_format](file, Wanted(dict.fromkeys(names, False), ()))
    rows = _Counted(value for piece in pieces for value in piece.values)
    drawn, seen, whole = _drawn(rows, count, rows)
    records = [record for value in drawn if (record := _object(value)) is not None]
    return Sample(records, seen, whole, left_out=left_out, as_sent=lambda _: drawn)


def _schema(file: BinaryIO, file_format: str) -> pa.Schema:
    if file_format == "parquet":
        return pq.ParquetFile(file).schema_arrow
    try:
        return pa.ipc.open_file(file).schema
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file).schema
    finally:
        file.seek(0)


_SAMPLES: Final[Mapping[str, Callable[[BinaryIO, int], Sample]]] = {
    "csv": _csv,
    "jsonl": _json_lines,
    "parquet": lambda file, count: _columnar(file, "parquet", count),
    "arrow": lambda file, count: _columnar(file, "arrow", count),
}
"""How a sample is taken, by the file's format."""
