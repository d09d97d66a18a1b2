"""What a version answers where its label has places: of each place, such as a tag or the step of a forecast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from headrace_data.tasks import TASKS, Measure

from headrace_client.report import page
from headrace_client.report.facts import Tags, VersionFacts
from headrace_client.report.markup import Html
from headrace_client.report.measures import figure

_NOTHING: Final = "\N{EN DASH}"


def places_cards(facts: VersionFacts, what: str) -> Iterator[Html]:
    """Show what was measured of each place of the label; nothing where it has none."""
    metrics, measures = facts.version["metrics"], _measures_of_tasks()
    parts = [name.split("/", 1) for name in metrics if "/" in name and name.partition("/")[0] in measures]
    names, places = (list(dict.fromkeys(part[side] for part in parts)) for side in (0, 1))
    if not places:
        return
    rows = [[place, *(_part(measures[name], metrics.get(f"{name}/{place}")) for name in names)] for place in places]
    heads = [what, *(measures[name].title for name in names)]
    yield page.card(
        f"By {what}", page.table(heads, rows, numbers=range(1, len(heads)), caption="fp32, whole test split")
    )


def _part(measure: Measure, value: float | None) -> str:
    return _NOTHING if value is None else figure(measure, value)


def _measures_of_tasks() -> dict[str, Measure]:
    return {name: measure for task in TASKS.values() for name, measure in task.measures.items()}


def tags_cards(answers: Tags) -> Iterator[Html]:
    """Show how often each label is there, and is answered."""
    rows = len(answers.truth)
    there, given = (each.sum(axis=0).astype(int).tolist() for each in (answers.truth, answers.labels))
    right = (answers.truth == answers.labels).all(axis=1).sum()
    counts = [[name, f"{true:,}", f"{found:,}"] for name, true, found in zip(answers.places, there, given, strict=True)]
    table = page.table(["label", "rows that have it", "answered"], counts, numbers=(1, 2))
    yield page.card("Labels", table, note=f"Of {rows:,} rows {right:,} have every label right.")
