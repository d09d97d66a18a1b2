"""The live screen: what two callers read, token by token, and what happens beside."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from callers import Callers
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

WIDTH = 96
LINE_S = 5.0
"""Where nothing can be drawn, a line is printed as often."""


class Screen:
    """Draws the callers; `stage` is what goes on, `tell` adds what happened."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._start = time.monotonic()
        self._events: list[tuple[float, str]] = []
        self.stage = ""

    def tell(self, event: str) -> None:
        """Add a line to what happened."""
        self._events.append((time.monotonic() - self._start, event))

    def __rich__(self) -> Panel:
        """Return the whole screen."""
        parts: list[RenderableType] = []
        for answer in self._callers.now:
            if answer is not None:
                parts += [Text(answer.question, style="bold"), Text(f"{answer.text}▌", style="green"), Text("")]
        parts += [self._figures(), Text(""), self._story()]
        return Panel(Group(*parts), title="[bold]Headrace[/] · assistant", width=WIDTH, padding=(1, 2))

    def line(self) -> str:
        """Return the state in one line, for logs."""
        figures = ", ".join(f"{name} {value}" for name, value in self._callers.figures().items())
        return f"{time.monotonic() - self._start:5.1f} s  {figures}  {self.stage}"

    def _figures(self) -> Table:
        table = Table.grid(padding=(0, 3))
        figures = self._callers.figures()
        table.add_row(*(f"[dim]{name}[/]" for name in figures))
        table.add_row(*(f"[bold]{value}[/]" for value in figures.values()))
        return table

    def _story(self) -> Text:
        text = Text()
        for moment_s, event in self._events[-8:]:
            text.append(f"{moment_s:5.1f} s  ", style="dim")
            text.append(f"{event}\n")
        text.append(f"         {self.stage}", style="cyan")
        return text


@contextmanager
def shown(screen: Screen, console: Console) -> Iterator[None]:
    """Draw the screen eight times a second on a terminal; print a line now and then elsewhere."""
    if console.is_terminal:
        with Live(screen, console=console, refresh_per_second=8):
            yield
        return
    over = threading.Event()

    def report() -> None:
        while not over.wait(LINE_S):
            console.print(f"  {screen.line()}")

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        over.set()
        reporter.join()
    console.print(screen)
