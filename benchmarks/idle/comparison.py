"""An idle platform with more and more pipelines: its CPU, its threads, and the way of a record through it."""

from __future__ import annotations

import json
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from headrace_client.registry import RegistryClient
from headrace_local.launcher import Platform
from headrace_runtime.kafka import Admin, LogReader
from headrace_runtime.record_topics import clean_topic
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaProducer

from benchmarks import figures

PIPELINES = (0, 10, 25, 50)
SAMPLE_S = 20.0
"""Length of one round."""
SETTLE_S = 15.0
"""Until a platform is idle: consumers have joined, and streams count as idle."""
RECORDS = 5
"""Records that are timed in each round, one after another has come through."""
WAIT_S = 120.0

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {name}
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: string, role: label}}
prepare: {{freeze: {{afterRecords: 1000000}}}}
train: {{network: {{kind: mlp, hidden: [4]}}}}
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One look at an idle platform."""

    kafka_percent: float
    """CPU of the broker, of one core."""
    services_percent: float
    """CPU of everything else."""
    threads: float
    """Threads of the six services."""
    to_clean_ms: float
    """Median time of a record from the producers' topic to the clean one, after the rest."""


def run(_platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Measure a platform of its own with each number of pipelines, and return the table and the figures."""
    found: dict[int, list[Round]] = {}
    with Platform.on_free_ports(folder / "idle") as platform:
        for count in PIPELINES:
            _apply(platform, count)
            _first_records(platform, count)
            time.sleep(SETTLE_S)
            found[count] = [_round(platform, count) for _ in range(rounds)]
    return figures.Measured(
        _table(found), {str(count): [figures.values(one) for one in found[count]] for count in found}
    )


def _apply(platform: Platform, count: int) -> None:
    with _admin(platform) as admin, RegistryClient(platform.addresses["registry"]) as registry:
        for name in map(_name, range(count)):
            admin.ensure_topic(name, 1)
            registry.apply(DOCUMENT.format(name=name))


def _first_records(platform: Platform, count: int) -> None:
    for number in range(count):
        _through(platform, _name(number), 1)


def _round(platform: Platform, count: int) -> Round:
    began_s, before = time.monotonic(), _cpu_s(platform)
    time.sleep(SAMPLE_S)
    took_s, after = time.monotonic() - began_s, _cpu_s(platform)
    percent = {name: 100 * (after[name] - before[name]) / took_s for name in after}
    processes = [psutil.Process(found.pid) for found in platform.status() if found.name not in ("kafka", "valkey")]
    threads = sum(process.num_threads() for process in processes)
    times = _through(platform, _name(0), RECORDS) if count else [0.0]
    kafka = percent.pop("kafka")
    return Round(kafka, sum(percent.values()), threads, statistics.median(times))


def _cpu_s(platform: Platform) -> dict[str, float]:
    return {
        found.name: sum(figures.cpu_s(each.pid) for each in (process, *process.children(recursive=True)))
        for found in platform.status()
        if (process := psutil.Process(found.pid))
    }


def _through(platform: Platform, name: str, count: int) -> list[float]:
    """Send records, each when the one before has come, and return how long each took to the clean topic, in ms."""
    settings = _settings(platform)
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers, acks="all")
    times = []
    with LogReader(settings, "bench") as reader, closing(producer):
        places = reader.partitions(clean_topic(name))
        reader.start_at(reader.ends(places))
        for number in range(count):
            sent_s = time.monotonic()
            producer.send(name, json.dumps({"id": f"{sent_s}-{number}", "x": 0.5, "y": "ab"[number % 2]}).encode())
            producer.flush()
            while not reader.poll(1.0):
                if time.monotonic() - sent_s > WAIT_S:
                    raise TimeoutError(f"a record of {name} has not become clean within {WAIT_S:.0f} s")
            times.append(1_000 * (time.monotonic() - sent_s))
    return times


def _admin(platform: Platform) -> Admin:
    return Admin(_settings(platform), "bench")


def _settings(platform: Platform) -> KafkaSettings:
    return KafkaSettings.model_validate({"kafka_bootstrap_servers": platform.bootstrap_servers})


def _name(number: int) -> str:
    return f"idle-{number}"


def _table(found: dict[int, list[Round]]) -> str:
    head = (
        "idle pipelines",
        "all, % of a core",
        "Kafka",
        "services",
        "% for each pipeline",
        "threads",
        "record to clean, ms",
    )
    rest = statistics.median(one.kafka_percent + one.services_percent for one in found[0])
    rows = []
    for count, rounds in found.items():
        totals = [one.kafka_percent + one.services_percent for one in rounds]
        rows.append(
            (
                str(count),
                figures.spread(totals, 1),
                figures.spread([one.kafka_percent for one in rounds], 1),
                figures.spread([one.services_percent for one in rounds], 1),
                f"{(statistics.median(totals) - rest) / count:.2f}" if count else "",
                figures.spread([one.threads for one in rounds]),
                figures.spread([one.to_clean_ms for one in rounds]) if count else "",
            )
        )
    return figures.table(head, rows)
