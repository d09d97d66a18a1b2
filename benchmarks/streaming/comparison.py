"""Records to checked Arrow, exactly once, on a real broker: ingestion beside other ways, one after another."""

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
from benchmarks.streaming.shapes import SHAPES, Shape

TIMEOUT_S = 180.0
OURS = "Headrace ingestion, the service's loop"
HANDLER = "its handler alone"
BARE = "a loop over confluent-kafka, a parser and pyarrow"
QUIX = "Quix Streams, which writes JSON"


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over the topic."""

    rows_per_s: float
    rows_per_cpu_s: float


Passes = dict[str, list[Round]]


def run(platform: Platform, _folder: Path, rounds: int) -> figures.Measured:
    """Return a table for each shape. A contender that cannot be installed is left out, and the reason told."""
    commands, skipped = _commands()
    tables, raw = [], {}
    for name, shape in SHAPES.items():
        # Quix Streams reads JSON by itself.
        taken = {each: command for each, command in commands.items() if each != QUIX or shape.format == "json"}
        size, found = _measured(platform, name, shape, rounds, taken)
        tables.append(_table(f"{shape.rows:,} records of {name}, {size:,.0f} bytes", found))
        raw[name] = {contender: [figures.values(one) for one in done] for contender, done in found.items()}
    return figures.Measured("\n\n".join([*tables, *skipped]), raw)


def _commands() -> tuple[dict[str, list[str]], list[str]]:
    ours = {
        OURS: [sys.executable, "-m", "benchmarks.streaming.ours"],
        HANDLER: [sys.executable, "-m", "benchmarks.streaming.handler"],
    }
    try:
        python = str(peers.python("streams"))
    except peers.Unavailable as reason:
        return ours, [f"Skipped: Quix Streams and confluent-kafka: {reason}"]
    theirs = {BARE: [python, "-m", "benchmarks.streaming.bare"], QUIX: [python, "-m", "benchmarks.streaming.quix"]}
    return ours | theirs, []


def _measured(
    platform: Platform, name: str, shape: Shape, rounds: int, commands: dict[str, list[str]]
) -> tuple[float, Passes]:
    """Return the mean size of a record in bytes, and what each contender did in each round."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    settings = Settings.model_validate({"kafka_bootstrap_servers": platform.bootstrap_servers, "metrics_address": ""})
    with Admin(settings, "benchmarks") as admin:
        for each in (topic, f"{topic}.quix", f"{topic}.bare"):
            admin.ensure_topic(each, PARTITIONS)
        admin.ensure_record_topics(topic, PARTITIONS)
    size = produce(platform.bootstrap_servers, topic, shape)
    found: Passes = {contender: [] for contender in commands}
    for number in range(rounds):
        for place, (contender, command) in enumerate(commands.items()):
            group = f"{topic}.{number}.{place}"
            found[contender].append(_pass([*command, platform.bootstrap_servers, topic, name, group]))
    return size, found


def _pass(command: list[str]) -> Round:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, cwd=peers.ROOT)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return Round(told["rows"] / told["wall_s"], told["rows"] / told["cpu_s"])


def _table(told: str, found: Passes) -> str:
    reference = BARE if BARE in found else OURS
    head = [told, "rows/s", "rows per CPU second", "of the loop" if reference is BARE else "of itself"]
    lines = []
    for contender, done in found.items():
        per_cpu = [one.rows_per_cpu_s for one in done]
        line = [contender, figures.spread([one.rows_per_s for one in done]), figures.spread(per_cpu)]
        lines.append([*line, figures.share(per_cpu, [one.rows_per_cpu_s for one in found[reference]])])
    return figures.table(head, lines)
