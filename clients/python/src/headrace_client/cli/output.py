"""How results look: JSON on standard output, tables that fit 80 columns, errors and progress on standard error."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

COLOURS = {
    **dict.fromkeys(("done", "succeeded", "released", "passed", "running", "accepted", "trained"), "green"),
    **dict.fromkeys(("candidate", "starting", "not ready", "exhausted"), "yellow"),
    **dict.fromkeys(("failed", "refused", "unreachable", "failing", "fatal", "backoff", "exited", "stopped"), "red"),
    "rejected": "red",
    **dict.fromkeys(("waiting", "repeated", "superseded", "replaced", "skipped", "not trained"), "dim"),
}
"""Colour by state word."""


FOLDED_WIDTH = 8
"""Least width of a column whose text may go on in the next line."""
SHOWN_CHARACTERS = 2_000
"""How much of a record's bytes the text shows; `--json` prints all of them."""
UNFOLDED_WIDTH = 10_000
"""Width for a reader that is no terminal: what `grep` looks for must not go on in the next line."""


def stdout() -> Console:
    """Return the console of results."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    # Without emoji off, the `:100:` of `scans:100:7` is drawn as a picture.
    return Console(highlight=False, emoji=False, width=None if known else UNFOLDED_WIDTH)


def stderr() -> Console:
    """Return the console of errors and progress."""
    return Console(stderr=True, highlight=False, emoji=False)


def print_parts(parts: Sequence[RenderableType]) -> None:
    """Print tables and remarks with an empty line between them."""
    console = stdout()
    for number, part in enumerate(parts):
        if number:
            console.print()
        if isinstance(part, Table):
            _fit(part, console.width)
        console.print(part, crop=False)


def _fit(drawn: Table, width: int) -> None:
    """Narrow a table's gaps where it is too wide; wider still, it keeps every column, and the terminal breaks lines."""
    columns = sum(column.min_width or 0 for column in drawn.columns)
    gaps = len(drawn.columns) - 1
    if columns + 2 * gaps > width:
        drawn.padding = (0, 0)
        drawn.width = columns + gaps if columns + gaps > width else None


def print_json(value: Any) -> None:
    """Print a value as indented JSON; nothing else goes to standard output then."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    """Return the value with null for numbers that JSON does not have, such as the loss of a run that diverged."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def printable(text: str) -> str:
    """Return a text of which a terminal shows every character: names and values from records may mean to steer it."""
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def bytes_text(data: bytes) -> str:
    """Return bytes for a terminal: what it cannot print is escaped, and what is long is cut."""
    text = data[: SHOWN_CHARACTERS * 4].decode(errors="backslashreplace")
    safe = printable(text).replace("\n", r"\n")
    if len(data) <= SHOWN_CHARACTERS * 4 and len(safe) <= SHOWN_CHARACTERS:
        return safe
    return f"{safe[:SHOWN_CHARACTERS]}… ({len(data)} bytes; --json prints all)"


def error_line(message: str) -> None:
    """Print what went wrong to standard error."""
    stderr().print(f"[red]error:[/] {plain(message)}", soft_wrap=True)


def note(message: str) -> None:
    """Print a remark to standard error, where it disturbs no reader of standard output."""
    stderr().print(plain(message), soft_wrap=True)


def say(message: str) -> None:
    """Print one line of result."""
    stdout().print(plain(message), soft_wrap=True)


def coloured(word: str) -> str:
    """Return a state word as markup in its colour."""
    return f"[{COLOURS[word]}]{word}[/]" if word in COLOURS else escape(word)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> Table:
    """Return a table; a column name that starts with `>` is aligned right, one that starts with `=` never wraps.

    Cells are markup: what comes from outside goes through `plain` first.
    """
    built = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title or None,
        title_justify="left",
        title_style="bold",
    )
    cells = [list(row) for row in rows]
    for place, column in enumerate(columns):
        fixed = column.startswith((">", "="))
        name = column.lstrip(">=")
        widest = max(_width(cell) for cell in (name, *(row[place] for row in cells)))
        built.add_column(
            name,
            justify="right" if column.startswith(">") else "left",
            no_wrap=fixed,
            overflow="fold",
            min_width=widest if fixed else min(widest, FOLDED_WIDTH),
        )
    for row in cells:
        built.add_row(*row)
    return built


def _width(cell: str) -> int:
    return max((line.cell_len for line in Text.from_markup(cell, emoji=False).split()), default=0)


def plain(value: object) -> str:
    """Return a value as a table cell without markup."""
    return escape(printable(str(value)))
