"""The tables of decisions to train, and of what is served on new rows."""

from __future__ import annotations

from rich.console import RenderableType

from headrace_client.cli.output import coloured, plain, table
from headrace_client.cli.tables import moment_text, number
from headrace_client.views import View, short_id


def decisions(found: list[View]) -> list[RenderableType]:
    """Show decisions, and under them why they were taken."""
    rows = [
        [
            plain(view["pipeline"]),
            short_id(view["dataset_id"]),
            coloured("trained" if view["trained"] else "not trained"),
            plain(view["cause"]),
            str(view["ordinal"] or ""),
            _value(view["before"]),
            _value(view["now"]),
            _moved(view["drift"]),
            moment_text(view["decide_time"]),
        ]
        for view in found
    ]
    columns = ["pipeline", "=dataset", "=decision", "cause", ">version", ">was", ">now", "most moved", "=decided"]
    return [table(columns, rows), *(f"{short_id(view['dataset_id'])}: {plain(view['reason'])}" for view in found)]


def evaluations(found: list[View]) -> list[RenderableType]:
    """Show what versions scored on new rows while they were served."""
    rows = [
        [
            plain(view["pipeline"]),
            short_id(view["segment_id"]),
            str(view["now"]["rows"]),
            str(view["ordinal"] or ""),
            plain(view["measure"]),
            _value(view["before"]["measures"].get(view["measure"])),
            _interval(view["now"]["measures"].get(view["measure"])),
            _moved(_most_moved(view)),
            moment_text(view["end_time"]),
        ]
        for view in found
    ]
    columns = ["pipeline", "=segment", ">rows", ">version", "measure", ">was", "=now", "most moved", "=scored"]
    return [table(columns, rows)]


def _most_moved(view: View) -> View | None:
    moved = [*view["inputs"], *([view["answers"]] if view["answers"] else [])]
    return max(moved, key=lambda each: (each["value"] > each["bound"], each["value"] - each["chance"]), default=None)


def _value(bounded: View | None) -> str:
    return "" if bounded is None else number(bounded["value"])


def _interval(bounded: View | None) -> str:
    if bounded is None:
        return ""
    return f"{number(bounded['value'])} ({number(bounded['low'])} to {number(bounded['high'])})"


def _moved(drift: View | None) -> str:
    if drift is None:
        return ""
    chance = "" if drift["value"] > drift["bound"] else ", chance"
    return plain(f"{drift['field'] or 'the answers'} {drift['value']:.2g}{chance}")
