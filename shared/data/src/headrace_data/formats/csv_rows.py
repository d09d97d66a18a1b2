"""CSV: one row for each message, without a header. What the columns are is told by the stream."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from headrace_data.formats.cells import LONGEST_ROW, cell_value
from headrace_data.formats.decoding import Decoded, Undecodable, decode_each
from headrace_data.formats.text import text_of
from headrace_data.rejections import Rejection

RULE: Final = "csv"


class CsvDecoder:
    """Reads rows of CSV."""

    def __init__(self, columns: Sequence[str], texts: Collection[str], delimiter: str, quote: str) -> None:
        """`columns` are the names of the cells in order; cells of those among `texts` stay as they are."""
        self._places = [(name, name in texts) for name in columns]
        self._expected = f"a row of {len(columns)} cells divided by {delimiter!r}"
        self._delimiter = delimiter
        self._quote = quote
        # Shared by all who read CSV in this process.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return a row for each value: see `Decoder`."""
        rows = self._together(values)
        if rows is None:
            return decode_each(RULE, self._expected, self._one, values, start, rejected)
        return [self._row(cells) for cells in rows], range(start, start + len(values))

    def _together(self, values: Sequence[bytes | None]) -> list[list[str]] | None:
        """Return the cells of all values, or None when any has to be looked at alone."""
        if not all(values):
            return None
        try:
            rows = list(self._cells(value.decode() for value in values if value))
        except (csv.Error, UnicodeDecodeError):
            return None
        # A row that is not ended within its message takes the next one with it: then there are fewer.
        return rows if len(rows) == len(values) and {*map(len, rows)} == {len(self._places)} else None

    def _one(self, value: bytes) -> dict[str, Any]:
        text = text_of(value)
        try:
            rows = list(self._cells(io.StringIO(text, newline="")))
        except csv.Error as error:
            raise Undecodable(f"expected {self._expected}, got what is none: {error}") from error
        if len(rows) != 1 or len(rows[0]) != len(self._places):
            got = f"{len(rows[0])} cells" if len(rows) == 1 else f"{len(rows)} rows"
            raise Undecodable(f"expected {self._expected}, got {got}")
        return self._row(rows[0])

    def _cells(self, texts: Iterable[str]) -> Iterable[list[str]]:
        return csv.reader(texts, delimiter=self._delimiter, quotechar=self._quote, strict=True)

    def _row(self, cells: list[str]) -> dict[str, Any]:
        return {
            name: cell_value(cell, is_text=is_text) for (name, is_text), cell in zip(self._places, cells, strict=True)
        }
