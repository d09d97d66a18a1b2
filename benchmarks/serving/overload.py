"""Overload: what is answered in time when more is offered than can be, by an open-loop client in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks import figures, peers
from benchmarks.serving.load import requests
from benchmarks.serving.open_loop import Outcome, Plan

DEADLINE_MS = 500
SECONDS = 4.0
TIMES = (0.5, 1.0, 2.0, 5.0)
"""Loads that are offered, as multiples of what the server answered to callers that wait for each answer."""


def measure(address: str, model: str, folder: Path, peak: float) -> dict[str, Outcome]:
    """Offer each load; return what became of it, by its multiple of `peak` calls a second."""
    request = folder / f"request-{model}"
    request.write_bytes(requests(model, 1)[0])
    plans = [Plan(times * peak, SECONDS, DEADLINE_MS) for times in TIMES]
    lines = "".join(
        json.dumps({"calls_per_s": plan.calls_per_s, "seconds": plan.seconds, "deadline_ms": plan.deadline_ms}) + "\n"
        for plan in plans
    )
    command = [sys.executable, "-m", "benchmarks.serving.open_loop", address, str(request)]
    said = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, cwd=peers.ROOT).stdout
    outcomes = [Outcome(**json.loads(line)) for line in said.splitlines()]
    return {f"{times:g}": outcome for times, outcome in zip(TIMES, outcomes, strict=True)}


def table(found: Mapping[str, Mapping[str, Outcome]]) -> str:
    """Return a table of servers and loads; shares are of the most that a server answered in time at any load."""
    lines = []
    for server, outcomes in found.items():
        good = {times: outcome.good / outcome.seconds for times, outcome in outcomes.items()}
        peak = max(good.values()) or 1.0
        for times, outcome in outcomes.items():
            share, recovered = f"{good[times] / peak:.2f}", f"{outcome.recovered_ms:.0f}"
            lines.append([server, times, f"{good[times]:,.0f}", share, f"{outcome.p99_ms:.0f}", recovered])
    head = [f"deadline {DEADLINE_MS} ms", "times its rate", "good calls/s", "of its most", "p99 ms", "recovered ms"]
    return figures.table(head, lines)
