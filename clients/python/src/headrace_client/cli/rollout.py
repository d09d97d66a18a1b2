"""`rollout`: how a candidate takes the champion's place."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import RenderableType

from headrace_client.addresses import find_addresses
from headrace_client.cli.output import JsonOption, note, plain, print_json, print_parts, table
from headrace_client.registry import RegistryClient
from headrace_client.rollouts import quality_text, rollout_view
from headrace_client.views import View


class Order(StrEnum):
    """What to do with a candidate."""

    ADVANCE = "advance"
    ABORT = "abort"


def rollout(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Of this model; of all without it.")] = "",
    order: Annotated[
        Order | None,
        typer.Argument(metavar="[advance|abort]", help="Begin the candidate's next step now, or take it back."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show rollouts with what was counted and why they ended, or move one by hand."""
    with RegistryClient(find_addresses().registry) as registry:
        if order is not None:
            registry.move_rollout(model, advance=order is Order.ADVANCE)
        found = [rollout_view(each) for each in registry.rollouts(model)]
    if as_json:
        print_json(found)
    elif not found:
        note(f"no version of '{model}' was rolled out yet" if model else "no version was rolled out yet")
    else:
        print_parts(tables(found))


def tables(found: list[View]) -> list[RenderableType]:
    """Show rollouts, and why each stands where it does."""
    rows = [
        [
            plain(each["model"]),
            str(each["ordinal"]),
            "shadow" if each["stage"] == "shadow" else f"{each['share']} %",
            f"{each['step'] + 1} of {each['steps']}",
            *_figures(each["counts"]),
            plain(each["outcome"] or "under way"),
            _moment(each["end_time"] or each["begin_time"]),
        ]
        for each in found
    ]
    columns = ["model", ">version", ">share", "=step", ">calls", ">failed", ">not finite"]
    told = [plain(f"{each['model']} version {each['ordinal']}: {line}") for each in found for line in _lines(each)]
    return [table([*columns, "=state", "=since"], rows), *told]


def _lines(each: View) -> list[str]:
    """Return why a rollout stands where it does, and while it is under way how good answers are."""
    quality = quality_text(each["quality"]) if each["quality"] and not each["end_time"] else ""
    return [each["reason"], *([quality] if quality else [])]


def _figures(counts: View | None) -> list[str]:
    if counts is None:
        return [""] * 3
    return [str(counts[name]) for name in ("candidate_calls", "failed", "not_finite")]


def _moment(text: str) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%m-%d %H:%M")
