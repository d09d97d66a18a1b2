"""The live screen: served accuracy over time, and what the callers see beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from traffic import Call, Traffic

WIDTH = 84
HEIGHT = 8
COLUMN_S = 0.5
BLOCKS = " ▁▂▃▄▅▆▇█"


class Screen:
    """Draws the state of the traffic; `events` tells what happened when."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._start = time.monotonic()
        self.stage = ""
        self.events: list[tuple[float, str]] = []

    def tell(self, event: str) -> None:
        """Add a line to what happened."""
        self.events.append((time.monotonic() - self._start, event))

    def __rich__(self) -> Panel:
        """Return the whole screen."""
        calls = list(self._traffic.calls)
        parts: list[RenderableType] = [
            Text("served accuracy", style="bold"),
            self._plot(calls),
            self._figures(calls),
            Text(""),
            self._story(),
        ]
        return Panel(Group(*parts), title="[bold]Headrace[/] · digits", width=WIDTH + 12, padding=(1, 2))

    def line(self) -> str:
        """Return the state in one line, for logs."""
        calls = list(self._traffic.calls)
        recent = [call for call in calls if call.moment_s > time.monotonic() - 2 * COLUMN_S] or calls[-1:]
        accuracy = np.mean([call.right for call in recent]) if recent else 0.0
        version = recent[-1].version if recent else "-"
        return (
            f"{time.monotonic() - self._start:5.1f} s  accuracy {accuracy:4.0%}  version {version}  "
            f"{len(calls)} calls  {self._traffic.failed} failed  {self.stage}"
        )

    def save(self, path: Path) -> None:
        """Write the screen as it is now as an SVG image."""
        console = Console(record=True, width=WIDTH + 14, file=Path("/dev/null").open("w"))  # noqa: SIM115
        console.print(self)
        console.save_svg(str(path), title="make demo")

    def _plot(self, calls: Sequence[Call]) -> Text:
        """Return the accuracy of each half second as a column of blocks, the newest at the right."""
        columns: dict[int, list[bool]] = {}
        for call in calls:
            columns.setdefault(int((call.moment_s - self._start) / COLUMN_S), []).append(call.right)
        newest = max(columns, default=0)
        shown = range(max(0, newest - WIDTH + 1), newest + 1)
        values = [float(np.mean(columns[number])) if number in columns else None for number in shown]
        text = Text()
        for row in reversed(range(HEIGHT)):
            label = "100 % " if row == HEIGHT - 1 else "  0 % " if row == 0 else "      "
            text.append(label, style="dim")
            for value in values:
                filled = 0 if value is None else round(value * HEIGHT * 8) - row * 8
                text.append(BLOCKS[max(0, min(8, filled))], style=_colour(value))
            text.append("\n")
        return text

    def _figures(self, calls: Sequence[Call]) -> Table:
        recent = [call for call in calls if call.moment_s > time.monotonic() - 2.0] or calls[-100:]
        latencies = [call.latency_ms for call in recent] or [0.0]
        hot = float(np.mean([call.cached for call in recent])) if recent else 0.0
        span_s = max(0.5, recent[-1].moment_s - recent[0].moment_s) if recent else 1.0
        failed = self._traffic.failed
        figures = {
            "version": recent[-1].version if recent else "-",
            "requests/s": f"{len(recent) / span_s:.0f}",
            "p50": f"{np.percentile(latencies, 50):.1f} ms",
            "p99": f"{np.percentile(latencies, 99):.1f} ms",
            "from Valkey": f"{hot:.0%}",
            "calls": f"{len(calls):,}",
            "failed": f"[bold {'red' if failed else 'green'}]{failed}[/]",
        }
        table = Table.grid(padding=(0, 3))
        table.add_row(*(f"[dim]{name}[/]" for name in figures))
        table.add_row(*(f"[bold]{value}[/]" for value in figures.values()))
        return table

    def _story(self) -> Text:
        text = Text()
        for moment_s, event in self.events[-10:]:
            text.append(f"{moment_s:5.1f} s  ", style="dim")
            text.append(f"{event}\n")
        text.append(f"         {self.stage}", style="cyan")
        return text


def _colour(accuracy: float | None) -> str:
    if accuracy is None:
        return "dim"
    return "green" if accuracy >= 0.9 else "yellow" if accuracy >= 0.6 else "red"
