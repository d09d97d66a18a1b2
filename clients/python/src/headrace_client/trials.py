"""The trials of a search, as tables show them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

HEADS: Final = ("trial", "settings", "loss", "epochs", "state")


def trial_rows(trials: Sequence[Mapping[str, Any]], most: int) -> list[list[str]]:
    """Return a row for each trial, of at most so many: the best ones, in the order in which they were tried."""
    ranked = sorted(trials, key=lambda trial: (not trial["chosen"], _rank(trial)))[:most]
    return [_row(trial) for trial in sorted(ranked, key=lambda trial: int(trial["number"]))]


def settings_text(trial: Mapping[str, Any]) -> str:
    """Return the settings of a trial, by the last part of each path where that is enough to tell them apart."""
    paths = list(trial["values"])
    lasts = [path.rpartition(".")[2] for path in paths]
    names = lasts if len(set(lasts)) == len(lasts) else paths
    return ", ".join(f"{name} {_value(trial['values'][path])}" for name, path in zip(names, paths, strict=True))


def chosen_text(trials: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what a version with a search is, in words; nothing for one without."""
    for trial in trials:
        if trial["chosen"]:
            yield f"trial {trial['number'] + 1} of {len(trials)}: {settings_text(trial)}"


def _rank(trial: Mapping[str, Any]) -> tuple[bool, float]:
    loss = trial["validation_loss"]
    return trial["state"] != "done", float("inf") if loss is None else loss


def _row(trial: Mapping[str, Any]) -> list[str]:
    loss = trial["validation_loss"]
    told = "chosen" if trial["chosen"] else trial["state"] + (f": {trial['reason']}" if trial["reason"] else "")
    shown = "" if loss is None else f"{loss:.4g}"
    return [str(trial["number"] + 1), settings_text(trial), shown, str(trial["epochs"]), told]


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
