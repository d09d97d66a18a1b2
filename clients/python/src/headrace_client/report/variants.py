"""Variants of a version in its report: by time, quality and size, and everything that was measured of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from headrace_data.frontier import frontier
from headrace_data.tasks import LATENCY, SIZE, TASKS, Measure, of_part

from headrace_client.report import page
from headrace_client.report.charts import frontier_chart
from headrace_client.report.markup import Html
from headrace_client.report.svg import readable
from headrace_client.views import View

_OUTDONE: Final = "A pale variant is outdone: another takes no more time, size or memory and is as accurate."
_NONE_OUTDONE: Final = "No variant outdoes another in times, size, memory and accuracy together."
_FAILED: Final = "One that failed a gate is pale as well."
_NOTHING: Final = "\N{EN DASH}"


def variants_cards(version: View, release: View | None, headline: Measure) -> Html:
    """Return the cards of a version's variants, given the release in force where it is of the version."""
    if not version["variants"]:
        return page.cards(page.card("Not measured yet", note="The compressor has not told of this version.", wide=True))
    first = release["variant"] if release else ""
    inner = _cards_on(version, first, headline, "")
    for other in version.get("elsewhere", ()):
        served = release["classes"].get(other["cpu_class"], []) if release else []
        inner += _cards_on(other, "".join(served[:1]), headline, f" on {other['cpu_class']}")
    return page.cards(*inner)


def _cards_on(measured: View, served: str, headline: Measure, where: str) -> list[Html]:
    """Return the cards of the variants on one class of processors."""
    failed = {gate["variant"] for gate in measured["gates"] if not gate["passed"]}
    drawn = {one["name"]: one["metrics"] for one in measured["variants"] if _can_be_drawn(one["metrics"], headline)}
    figures = [_figure(drawn, failed, served, headline, where)] if drawn else []
    return [*figures, page.card(f"Measurements{where}", _measurements(measured["variants"]))]


def _can_be_drawn(metrics: Mapping[str, float], headline: Measure) -> bool:
    """Tell whether a variant has a place: what answers no numbers, and is refused for it, has none."""
    return all(math.isfinite(metrics.get(name, math.nan)) for name in (LATENCY, headline.name, SIZE))


def _figure(
    measured: Mapping[str, Mapping[str, float]], failed: set[str], served: str, headline: Measure, where: str
) -> Html:
    quality = headline.name
    best = frontier({name: metrics for name, metrics in measured.items() if name not in failed}, headline)
    points = {name: (metrics[LATENCY], metrics[quality], metrics[SIZE]) for name, metrics in measured.items()}
    told = f"Variants by latency and {quality}: " + ", ".join(points)
    chart = frontier_chart(points, told, "latency at batch 1 (ms)", quality, best=best)
    outdone = points.keys() - failed - set(best)
    marks = {"served": {served}, "failed": failed, "outdone": outdone}
    names = [_called(name, [mark for mark, those in marks.items() if name in those]) for name in points]
    notes = ["The area is the size.", _OUTDONE if outdone else _NONE_OUTDONE]
    notes += [_FAILED] if points.keys() & failed else []
    return page.card(f"Size, latency and quality{where}", page.figure(chart, "", names), note=" ".join(notes))


def _called(name: str, marks: Sequence[str]) -> str:
    return f"{name} ({', '.join(marks)})" if marks else name


def _measurements(variants: Sequence[View]) -> Html:
    names = list(dict.fromkeys(name for one in variants for name in one["metrics"] if not of_part(name)))
    rows = [[title_of(name), *(figure_text(name, one["metrics"].get(name)) for one in variants)] for name in names]
    heads = ["", *(one["name"] for one in variants)]
    return page.table(heads, rows, numbers=range(1, len(heads)), caption="Measured together on one machine")


def title_of(name: str) -> str:
    """Return what a measurement is called."""
    measures = {known: each for task in TASKS.values() for known, each in task.measures.items()}
    if name in measures:
        return measures[name].title
    return name.replace("_ms_", " (ms) ").replace("_bytes", " (bytes)").replace("_", " ")


def figure_text(name: str, value: float | None) -> str:
    """Return a measurement as it is written; a dash where there is none."""
    if value is None:
        return _NOTHING
    return f"{value:,.0f}" if name.endswith("_bytes") else readable(value)
