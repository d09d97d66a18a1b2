"""An epoch of LoRA by the trainer's family beside peft in a plain loop, on SmolLM2-135M, in turns."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from headrace_local.launcher import Platform

from benchmarks import figures, peers
from benchmarks.generation.comparison import MODEL, Side

LENGTH, RANK, BATCH = 256, 8, 8
ROWS: Final = {"as they come": 40, "of one length": 16}
"""How many rows an epoch has, by what they are like."""
_MODULE = "benchmarks.generation.epochs"
_SIDES = {"peft, plain loop": "plain", "Headrace": "ours"}


def run(platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return a table of epochs by what rows are like. What each side makes only once is made before."""
    try:
        (model,) = peers.python("smollm2").parents[1].glob(MODEL)
    except peers.Unavailable as error:
        return figures.Measured(f"LoRA was not measured: {error}", {})
    raw: dict[str, Any] = {kind: {name: [] for name in _SIDES} for kind in ROWS}
    with ExitStack() as stack:
        sides = {name: Side(_MODULE, side, str(model)) for name, side in _SIDES.items()}
        for side in sides.values():
            stack.callback(side.close)
            side.ask("of one length")
        for _ in range(rounds):
            for kind, found in raw.items():
                for name, side in sides.items():
                    found[name].append(side.ask(kind))
    return figures.Measured(_table(raw), raw)


def _table(raw: dict[str, Any]) -> str:
    head = [f"an epoch, rank {RANK}, batches of {BATCH}, at most {LENGTH} tokens", *(f"rows {kind}" for kind in ROWS)]
    plain, ours = _SIDES
    rows = [["tokens", *(f"{raw[kind][ours][0]['tokens']:,}" for kind in ROWS)]]
    for unit, key, digits in (("s", "wall_s", 1), ("CPU s", "cpu_s", 1), ("mean loss", "loss", 2)):
        for name in _SIDES:
            cells = [figures.spread([each[key] for each in raw[kind][name]], digits) for kind in ROWS]
            rows.append([f"{name}, {unit}", *cells])
    for unit, key in (("s", "wall_s"), ("CPU s", "cpu_s")):
        shares = [
            figures.share([each[key] for each in raw[kind][plain]], [each[key] for each in raw[kind][ours]])
            for kind in ROWS
        ]
        rows.append([f"peft / Headrace, {unit}", *shares])
    return figures.table(head, rows)
