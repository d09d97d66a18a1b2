"""The card of a version's slices: parts of the test split, each measured by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from headrace_data.tasks import Measure, Metrics, Slice, Task, worst_first

from headrace_client.report import page
from headrace_client.report.markup import Html
from headrace_client.report.measures import figure

_NOTHING: Final = "\N{EN DASH}"


def slices_card(metrics: Metrics, task: Task, first: Measure) -> Iterator[Html]:
    """Yield the slices among a version's measurements, the worst by the first measure first; nothing without any."""
    found = worst_first(metrics, first)
    if not found:
        return
    measures = [first, *(each for each in task.measured if each is not first)]
    shown = [each for each in measures if any(each.name in one.metrics for one in found)]
    rows = [[one.name, str(one.rows), *(_told(one, each) for each in shown)] for one in found]
    heads = ["slice", "rows", *(each.title for each in shown)]
    told = page.table(heads, rows, numbers=range(1, len(heads)), caption="By fp32")
    yield page.card("Slices", told, note="Parts of the test split, the worst first.", wide=True)


def _told(one: Slice, measure: Measure) -> str:
    return figure(measure, one.metrics[measure.name]) if measure.name in one.metrics else _NOTHING
