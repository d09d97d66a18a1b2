"""Overload: what is answered in time when more is offered than can be, by an open-loop client in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from benchmarks import figures, peers
from benchmarks.serving.load import requests, wait_answering
from benchmarks.serving.network import MODEL, SLOW
from benchmarks.serving.open_loop import Outcome, Plan

TIMES = (0.5, 1.0, 2.0, 5.0)
"""Loads that are offered, as multiples of the capacity."""
STEP = 1.2
"""Factor between two loads while the capacity is sought."""
KEPT = 0.98
"""Share of the offered calls that a server must answer in time, or it has reached its capacity."""
MISSES = 2
"""Loads in a row that a server could not answer whole: one alone may be a pause of the machine."""


@dataclass(frozen=True, slots=True)
class Case:
    """One model, the deadline of each call (milliseconds), the length of a load (seconds), and where to begin."""

    model: str
    deadline_ms: int
    seconds: float
    calls_per_s: float
    """The first load that is offered: less than any server's capacity."""


CASES = (Case(MODEL, 500, 4.0, 1_000), Case(SLOW, 2_000, 8.0, 20))


@dataclass(frozen=True, slots=True)
class Found:
    """What a server did in one case."""

    capacity: float
    """The most calls a second that it answered in time, while the load grew."""
    outcomes: Mapping[str, Outcome]
    """What became of each load, by its multiple of the capacity."""


def measure(address: str, case: Case, folder: Path) -> Found:
    """Seek the server's capacity, then offer multiples of it."""
    call = requests(case.model, 1)[0]
    uvloop.run(wait_answering(address, call))
    request = folder / f"request-{case.model}"
    request.write_bytes(call)
    with _client(address, request) as client:
        capacity, offered, missed = 0.0, case.calls_per_s, 0
        while missed < MISSES:
            outcome = _offer(client, Plan(offered, case.seconds / 2, case.deadline_ms))
            good = outcome.good / outcome.seconds
            capacity = max(capacity, good)
            missed = missed + 1 if good < KEPT * offered else 0
            offered *= STEP
        plans = {f"{times:g}": Plan(times * capacity, case.seconds, case.deadline_ms) for times in TIMES}
        return Found(capacity, {times: _offer(client, plan) for times, plan in plans.items()})


@contextmanager
def _client(address: str, request: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.serving.open_loop", address, str(request)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=peers.ROOT) as client:
        yield client


def _offer(client: subprocess.Popen[str], plan: Plan) -> Outcome:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(json.dumps(asdict(plan)) + "\n")
    client.stdin.flush()
    return Outcome(**json.loads(client.stdout.readline()))


def table(case: Case, found: Mapping[str, Found]) -> str:
    """Return a table of servers and loads; shares are of the server's own capacity."""
    lines = []
    for server, measured in found.items():
        for times, outcome in measured.outcomes.items():
            good = outcome.good / outcome.seconds
            line = [server, times, f"{outcome.offered / outcome.seconds:,.0f}", f"{good:,.0f}"]
            line += [f"{good / measured.capacity:.2f}", f"{outcome.p99_ms:.0f}", f"{outcome.recovered_ms:.0f}"]
            lines.append(line)
    what = f"{case.model}, deadline {case.deadline_ms} ms"
    return figures.table(
        [what, "times its capacity", "offered/s", "good/s", "of capacity", "p99 ms", "recovered ms"], lines
    )
