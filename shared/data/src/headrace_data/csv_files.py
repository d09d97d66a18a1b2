"""Tables in CSV as spreadsheets and programs write them: what divides them, names of their columns, their rows."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_data.errors import FileInvalid
from headrace_data.formats.cells import LONGEST_ROW

COLUMNS: Final = "columns"
"""Rule: a row of a file has as many columns as its header."""
DELIMITERS: Final = (",", ";", "\t", "|")
_TOLD: Final = "sep=;"
_SHOWN: Final = 60


@dataclass(frozen=True)
class Header:
    """The first line of a table, and where it stands."""

    text: str
    """With all its lines, where a name in quotes has several; empty of an empty file."""
    delimiter: str
    """What divides the cells, where a line before it tells that; Excel reads such a line, `sep=;`."""
    lines: int
    """How many lines there are up to its end."""

    def repeated(self, delimiter: str) -> list[str]:
        """Return the names that several columns have where this divides them."""
        counts = Counter(cells_of(self.text, delimiter))
        return sorted(cell for cell, count in counts.items() if cell.strip() and count > 1)

    def columns(self, delimiter: str) -> list[str]:
        """Return the names of the columns where this divides them: each once, a number where there is none."""
        names: dict[str, None] = {}
        numbers: dict[str, int] = {}
        for at, cell in enumerate(cells_of(self.text, delimiter), 1):
            name = first = cell if cell.strip() else f"column {at}"
            while name in names:
                numbers[first] = numbers.get(first, 1) + 1
                name = f"{first} {numbers[first]}"
            names[name] = None
        return list(names)


def text_lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines of a text. Raises FileInvalid for one that is too long."""
    while line := text.readline(LONGEST_ROW + 1):
        if len(line) > LONGEST_ROW:
            raise FileInvalid(f"expected lines of at most {LONGEST_ROW} characters, got a longer one")
        yield line


def header_of(lines: Iterator[str]) -> Header:
    """Return the header that a table begins with."""
    text, count, delimiter = next(lines, ""), 1, ""
    told = text.rstrip("\r\n")
    if len(told) == len(_TOLD) and told.startswith(_TOLD[:-1]):
        text, count, delimiter = next(lines, ""), 2, told[-1]
    # A name may have several lines, in quotes, as a cell of a spreadsheet.
    parts, size, is_open = [text], len(text), text.count('"') % 2
    while is_open and size < LONGEST_ROW and (line := next(lines, "")):
        parts.append(line)
        size, is_open, count = size + len(line), (is_open + line.count('"')) % 2, count + 1
    return Header("".join(parts), delimiter, count)


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, none where it cannot be divided so."""
    try:
        return next(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def likely_delimiter(header: Header, lines: Sequence[str]) -> str:
    """Return what divides the most lines into as many cells as the header, and into more than one."""

    def score(delimiter: str) -> tuple[bool, int, int]:
        width = len(cells_of(header.text, delimiter))
        return width > 1, sum(len(cells_of(line, delimiter)) == width for line in lines), width

    return header.delimiter or max(DELIMITERS, key=score)


def require_header(header: Header, delimiter: str, lines: Sequence[str]) -> None:
    """Raise FileInvalid where the first line does not name columns, such as the title of a sheet; `lines` follow."""
    if not header.text.strip():
        raise FileInvalid("expected a header with the names of the columns, got none")
    cells = cells_of(header.text, delimiter)
    # Programs write nothing above the numbers of rows, and one name behind it.
    if sum(bool(cell.strip()) for cell in cells) > 1 or (cells and not cells[0].strip() and any(cells)):
        return
    shown = header.text.strip()
    shown = f"{shown[:_SHOWN]}…" if len(shown) > _SHOWN else shown
    for number, line in enumerate(lines, header.lines + 1):
        if any(sum(bool(cell.strip()) for cell in cells_of(line, each)) > 1 for each in DELIMITERS):
            raise FileInvalid(
                f"expected the names of the columns in line {header.lines}, got {shown!r}: line {number} is the first "
                "with several cells. Remove the lines before the names"
            )
    raise FileInvalid(
        f"expected columns divided by comma, semicolon, tab or |, got one in line {header.lines}: {shown!r}"
    )


def csv_rows(lines: Iterator[str], header: Header, delimiter: str, width: int) -> Iterator[tuple[list[str], str]]:
    """Yield the cells of each row behind the header, and what is wrong with it; a blank line has no cells.

    Blank cells behind the last column are left out: spreadsheets write them. Raises FileInvalid where a quote that
    does not end takes other lines with it.
    """
    kept = _Last(lines)
    reader = csv.reader(kept, delimiter=delimiter, strict=True)
    while True:
        before = reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number = header.lines + before + 1
            # What ends within a cell was cut off.
            if reader.line_num > before + 1 or "expected after" not in str(error):
                raise FileInvalid(f"line {number}: {_reason(error)}") from error
            yield [kept.line.rstrip("\r\n")], f"line {number}: {_reason(error)}"
            continue
        cells = fitted(cells, width)
        wrong = bool(cells) and len(cells) != width
        yield cells, f"expected {width} columns, got {len(cells)}" if wrong else ""


def fitted(cells: list[str], width: int) -> list[str]:
    """Return the cells of a row without blank ones behind so many."""
    return cells[:width] if len(cells) > width and not any(cell.strip() for cell in cells[width:]) else cells


def _reason(error: csv.Error) -> str:
    told = str(error)
    if "expected after" in told:
        return 'expected a quote inside a cell in quotes to be doubled, as "", or a delimiter behind the cell'
    if "unexpected end" in told:
        return "expected a quote at the end of the cell that begins with one here, got none in the rest of the file"
    return f"expected a row of CSV, got {told}"


class _Last(Iterator[str]):
    """Keeps the last line that was read."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.line = ""

    def __next__(self) -> str:
        self.line = next(self._lines)
        return self.line
