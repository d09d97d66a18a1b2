"""What was served, cut by cut: quality on rows that nothing had learned from, drift of fields, and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headrace_client.report import page
from headrace_client.report.charts import SERIES, lines_chart
from headrace_client.report.markup import Html, moment
from headrace_client.report.svg import readable
from headrace_client.views import View, short_id

MOST_CUTS: Final = 200
"""The latest cuts that are drawn."""
_MOST_DECISIONS: Final = 50
ANSWERS: Final = "the answers"


def by_cut_cards(evaluations: Sequence[View], decisions: Sequence[View]) -> Html:
    """Return the charts of evaluations, of which there is at least one, and the decisions, oldest first."""
    shown = evaluations[-MOST_CUTS:]
    return page.cards(
        page.card("Quality", _quality(shown), note="The interval holds the true value 998 times in 1,000.", wide=True),
        page.card("Drift", _drift(shown), note="Beyond what chance gives for so many rows; 0.2 is a lot.", wide=True),
        *([_decisions(decisions)] if decisions else []),
    )


def quality_of(evaluation: View) -> View | None:
    """Return what was scored on the new rows by the measure that versions are compared by."""
    found: View | None = evaluation["now"]["measures"].get(evaluation["measure"])
    return found


def moved(evaluation: View) -> dict[str, float]:
    """Return how far each field, and the answers, moved: 0 where that may be chance."""
    every = [*evaluation["inputs"], *([evaluation["answers"]] if evaluation["answers"] else [])]
    return {
        each["field"] or ANSWERS: each["value"] - each["chance"] if each["value"] > each["bound"] else 0.0
        for each in every
    }


def most_moved(evaluations: Sequence[View], most: int) -> list[str]:
    """Return the names of the fields that moved most in any of these, the first one most."""
    highest: dict[str, float] = {}
    for evaluation in evaluations:
        for name, value in moved(evaluation).items():
            highest[name] = max(value, highest.get(name, 0.0))
    return sorted(highest, key=lambda name: -highest[name])[:most]


def _quality(evaluations: Sequence[View]) -> Html:
    measure = evaluations[-1]["measure"]
    found = [(number, quality_of(each)) for number, each in enumerate(evaluations, start=1)]
    series = {
        name: [(float(number), each[key]) for number, each in found if each is not None]
        for name, key in ((measure, "value"), ("at least", "low"), ("at most", "high"))
    }
    description = f"{measure} of what was served on the rows of each cut, with its interval."
    return page.figure(lines_chart(series, description, "cut", measure), legend=list(series))


def _drift(evaluations: Sequence[View]) -> Html:
    names = most_moved(evaluations, SERIES)
    series = {
        name: [(float(number), moved(each).get(name, 0.0)) for number, each in enumerate(evaluations, start=1)]
        for name in names
    }
    description = "Population stability index beyond chance, by field and cut."
    return page.figure(lines_chart(series, description, "cut", "drift", floor=0.0), legend=names)


def _decisions(decisions: Sequence[View]) -> Html:
    rows = [
        [
            moment(each["decide_time"]),
            short_id(each["dataset_id"]),
            "trained" if each["trained"] else "not trained",
            readable(each["now"]["value"]) if each["now"] else "",
            each["reason"],
        ]
        for each in reversed(decisions[-_MOST_DECISIONS:])
    ]
    return page.card(
        "Decisions", page.table(["when", "dataset", "decision", "now", "why"], rows, numbers=(3,)), wide=True
    )
