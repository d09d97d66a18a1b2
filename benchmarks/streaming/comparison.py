"""JSON records to checked ones, exactly once, on a real broker: ingestion beside other ways, one after another."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from headrace_ingestion.settings import Settings
from headrace_local.launcher import Platform
from headrace_runtime.kafka import Admin

from benchmarks import figures, peers
from benchmarks.streaming.records import PARTITIONS, produce

ROWS = 60_000
TIMEOUT_S = 180.0
OURS = "Headrace ingestion"
QUIX = "Quix Streams"


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over the topic."""

    rows_per_s: float
    rows_per_cpu_s: float


def run(platform: Platform, _folder: Path, rounds: int) -> figures.Measured:
    """Return the table. A contender that cannot be installed is left out, and the reason told."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    settings = Settings.model_validate({"kafka_bootstrap_servers": platform.bootstrap_servers, "metrics_address": ""})
    with Admin(settings, "benchmarks") as admin:
        for topic in (name, f"{name}.quix", f"{name}.bare"):
            admin.ensure_topic(topic, PARTITIONS)
        admin.ensure_record_topics(name, PARTITIONS)
    size = produce(platform.bootstrap_servers, name, ROWS)
    commands, skipped = _commands()
    found: dict[str, list[Round]] = {contender: [] for contender in commands}
    for number in range(rounds):
        for contender, command in commands.items():
            group = f"{name}.{number}.{len(contender)}"
            found[contender].append(_pass([*command, platform.bootstrap_servers, name, str(ROWS), group]))
    raw = {contender: [figures.values(one) for one in done] for contender, done in found.items()}
    return figures.Measured(_table(size, found) + "".join(f"\n\n{line}" for line in skipped), raw)


def _commands() -> tuple[dict[str, list[str]], list[str]]:
    commands = {OURS: [sys.executable, "-m", "benchmarks.streaming.ours"]}
    try:
        python = str(peers.python("streams"))
    except peers.Unavailable as reason:
        return commands, [f"Skipped: Quix Streams and confluent-kafka: {reason}"]
    commands[QUIX] = [python, "-m", "benchmarks.streaming.quix"]
    commands["a loop over confluent-kafka and orjson"] = [python, "-m", "benchmarks.streaming.bare"]
    return commands, []


def _pass(command: list[str]) -> Round:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, cwd=peers.ROOT)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return Round(told["rows"] / told["wall_s"], told["rows"] / told["cpu_s"])


def _table(size: float, found: dict[str, list[Round]]) -> str:
    reference = found.get(QUIX, found[OURS])
    head = [f"{ROWS:,} JSON records of {size:.0f} bytes", "rows/s", "rows per CPU second"]
    lines = []
    for contender, done in found.items():
        per_cpu = [one.rows_per_cpu_s for one in done]
        line = [contender, figures.spread([one.rows_per_s for one in done]), figures.spread(per_cpu)]
        lines.append([*line, figures.share(per_cpu, [one.rows_per_cpu_s for one in reference])])
    return figures.table([*head, "of Quix" if QUIX in found else "of itself"], lines)
