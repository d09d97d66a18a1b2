"""What of a pipeline's rows is held, and in no dataset: how much, why, and how somebody decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace_client.holding import suspicion_text
from headrace_client.report import page
from headrace_client.report.markup import Html, counted, element, joined, moment
from headrace_client.views import View, short_id

LEAD = "Segments that were suspected when they were cut: nothing learns from them until somebody decides."


def held_tile(held: Sequence[View]) -> Iterator[page.Tile]:
    """Yield how many rows wait for a decision, where any do; `held` are the pipeline's suspected segments."""
    if waiting := [each for each in held if each["state"] == "held"]:
        rows = sum(each["rows"] for each in waiting)
        yield page.Tile("held", f"{rows:,}", f"rows of {counted(len(waiting), 'segment')} that wait for a decision")


def held_section(held: Sequence[View]) -> Iterator[tuple[str, str, Html]]:
    """Yield the section of the segments that are held or were dropped, newest first, where there are any."""
    if not held:
        return
    rows = [
        [
            moment(each["hold_time"]),
            short_id(each["segment_id"]),
            each["state"],
            each["rows"],
            "; ".join(suspicion_text(one) for one in each["suspicions"]),
        ]
        for each in reversed(held)
    ]
    table = page.table(["when", "segment", "state", "rows", "suspected of"], rows, numbers=(3,))
    yield "Held", LEAD, page.cards(page.card("Segments", table, *_commands(held), wide=True))


def _commands(held: Sequence[View]) -> Iterator[Html]:
    waiting = [each for each in held if each["state"] == "held"]
    if not waiting:
        return
    accept, drop = (f"headrace hold {verdict} {waiting[-1]['pipeline']} SEGMENT" for verdict in ("accept", "drop"))
    told = joined(element("code", accept), " has one learned all the same, ", element("code", drop), " never.")
    yield element("p", told, class_="note")
