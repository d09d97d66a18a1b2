"""What a hot prediction costs a replica beside the model: from Redis each time, and from memory just after."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop
from headrace_local.launcher import Platform

from benchmarks import figures
from benchmarks.serving.comparison import CACHED, environment, free_address, release, running
from benchmarks.serving.load import Round, measure, requests, wait_answering
from benchmarks.serving.network import MODEL

SECONDS = 1.0
CALLERS = (1, 16)
CASES = {
    "the model, which is not cached": (MODEL, {}),
    "a hit, from Valkey each time": (CACHED, {"recent_bytes": "0"}),
    "a hit, of the same bytes within two seconds": (CACHED, {}),
}
"""Model and settings by what is measured."""


def run(platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return a table for each number of callers."""
    release(platform, folder / "store")
    with ExitStack() as stack:
        servers = {}
        for name, (model, settings) in CASES.items():
            address = free_address()
            chosen = environment(platform, folder, address, settings)
            pid = stack.enter_context(running([sys.executable, "-m", "headrace_inference"], chosen))
            servers[name] = (address, pid, requests(model, 1))
        found = uvloop.run(_measure(servers, rounds))
    raw = {
        f"{callers} callers": {name: [figures.values(one) for one in done] for name, done in each.items()}
        for callers, each in found.items()
    }
    return figures.Measured("\n\n".join(_table(*each) for each in found.items()), raw)


async def _measure(servers: dict[str, Any], rounds: int) -> dict[int, dict[str, list[Round]]]:
    found: dict[int, dict[str, list[Round]]] = {callers: {name: [] for name in servers} for callers in CALLERS}
    for address, _, sent in servers.values():
        for each in sent:  # kept from now on
            await wait_answering(address, each)
    for _ in range(rounds):
        for callers in CALLERS:
            for name, (address, pid, sent) in servers.items():
                found[callers][name].append(await measure(address, pid, sent, callers, SECONDS))
    return found


def _table(callers: int, found: dict[str, list[Round]]) -> str:
    model = next(iter(found.values()))
    lines = [
        [
            name,
            figures.spread([one.calls_per_s for one in done]),
            figures.spread([one.cpu_us for one in done]),
            figures.share([one.cpu_us for one in done], [one.cpu_us for one in model]),
            figures.spread([one.p99_ms for one in done], 1),
        ]
        for name, done in found.items()
    ]
    head = [f"{callers} caller{'s' * (callers > 1)}", "calls/s", "CPU us/call", "of the model", "p99 ms"]
    return figures.table(head, lines)
