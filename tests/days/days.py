"""Streams many days by event time, cuts one segment a day, and learns from a window of the last ones.

    python tests/days/days.py --days 90 --rows 5000000 --window 30

prints what days cost, what processes and the disk hold, and exits 1 when a dataset is not the window that it should be.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from costs import Costs, cpu_s
from headrace_client import RegistryClient
from headrace_data.manifest import Manifest
from headrace_local.launcher import Platform
from headrace_runtime.kafka import Admin
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaProducer
from stored import contents

PIPELINE = "days"
PARTITIONS = 3
DAY_US = 24 * 3600 * 1_000_000
PATIENCE_S = 300.0
SPEC = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {name}
  time: at
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: height, type: float32, role: feature}}
    - {{name: width, type: float32, role: feature}}
    - {{name: colour, type: string, role: feature}}
    - {{name: kind, type: int64, role: label}}
prepare:
  transform:
    height: {{scale: standard}}
    width: {{scale: robust}}
    colour: {{encode: onehot}}
  freeze: {{afterRecords: {rows}}}
  window: {{last: {window}d}}
train:
  network: {{kind: mlp, hidden: [8]}}
  batchSize: 4096
  epochs: 1
compress: {{variants: []}}
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    days: int
    rows: int
    window: int
    home: Path | None

    @property
    def daily(self) -> int:
        """Rows of a day."""
        return self.rows // self.days


def options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="days", description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--rows", type=int, default=5_000_000, help="of all days together")
    parser.add_argument("--window", type=int, default=30, help="days of a dataset")
    parser.add_argument("--home", type=Path, help="keep the platform's state here, to look at afterwards")
    told = parser.parse_args()
    return Options(told.days, told.rows, told.window, told.home)


def main() -> int:
    """Run, and return the exit code."""
    told = options()
    with tempfile.TemporaryDirectory(prefix="days-", ignore_cleanup_errors=True) as folder:
        home = told.home or Path(folder)
        with Platform.on_free_ports(home) as platform, RegistryClient(platform.addresses["registry"]) as registry:
            settings = KafkaSettings.model_validate({"kafka_bootstrap_servers": platform.bootstrap_servers})
            with Admin(settings, "days") as admin:
                admin.ensure_topic(PIPELINE, PARTITIONS)
            registry.apply(SPEC.format(name=PIPELINE, rows=told.daily, window=told.window))
            differences = run(told, platform, settings, registry)
    for difference in differences:
        print(f"WRONG {difference}")
    return 1 if differences else 0


def run(told: Options, platform: Platform, settings: KafkaSettings, registry: RegistryClient) -> list[str]:
    """Stream day after day, tell what it cost, and return what is wrong."""
    costs, store = Costs(platform), ObjectStore(platform.connections.store_url)
    start_us = int(time.time() * 1_000_000) - told.days * DAY_US
    waits: list[float] = []
    used: list[float] = []
    differences: list[str] = []
    for day in range(told.days):
        before_s = cpu_s(platform.pid("preprocessing"))
        send(settings, told, day, start_us)
        sent_s = time.monotonic()
        until(partial(has_more_than, registry, day), costs)
        waits.append(time.monotonic() - sent_s)
        used.append(cpu_s(platform.pid("preprocessing")) - before_s)
        frozen = registry.datasets(PIPELINE)[-1].frozen
        differences += wrong(told, day, Manifest.from_json(store.get(frozen.manifest)))
        print(f"day {day + 1:3}: frozen after {waits[-1]:5.2f} s, preprocessing used {used[-1]:5.2f} s", flush=True)
    last = registry.datasets(PIPELINE)[-1].frozen.dataset_id
    until(lambda: any(one.trained.dataset_id == last for one in registry.versions()), costs)
    tenth, newest = median_around(used, min(10, told.days)), median_around(used, told.days)
    print(f"processes at their largest: {costs.largest()}")
    print(f"disk: {contents(settings, store, PIPELINE)}")
    print(
        f"days days={told.days} rows={told.daily * told.days} cpu_of_early_day={tenth:.2f}s "
        f"cpu_of_last_day={newest:.2f}s largest_process={max(costs.marks.values()) / 2**20:.0f}MiB "
        f"wrong={len(differences)}"
    )
    return differences


def has_more_than(registry: RegistryClient, count: int) -> bool:
    """Return whether there are more than so many datasets."""
    return len(registry.datasets(PIPELINE)) > count


def median_around(values: list[float], day: int) -> float:
    """Return the median of what a day and those around it took."""
    return statistics.median(values[max(0, day - 5) : day + 2])


def wrong(told: Options, day: int, manifest: Manifest) -> list[str]:
    """Return what is wrong with a day's dataset: the days before the window are no part of it."""
    expected = told.daily * min(day + 1, told.window)
    # The window reaches back from the newest row and not from the end of its day: a row of the day before is in it.
    reached = {expected, expected + 1} if day >= told.window else {expected}
    if manifest.rows in reached:
        return []
    return [f"day {day + 1}: expected {sorted(reached)} rows in the dataset, got {manifest.rows}"]


def send(settings: KafkaSettings, told: Options, day: int, start_us: int) -> None:
    """Write a day's records, in the order of their times."""
    with closing(KafkaProducer(acks="all", linger_ms=20, **settings.kafka_client())) as producer:
        for number, value in enumerate(records(told, day, start_us)):
            producer.send(PIPELINE, value, str(number).encode(), partition=number % PARTITIONS)
        producer.flush()


def records(told: Options, day: int, start_us: int) -> Iterator[bytes]:
    """Yield a day's records."""
    step_us = DAY_US // told.daily
    for number in range(told.daily):
        identity = day * told.daily + number
        kind = identity % 2
        row = {
            "id": identity,
            "at": start_us + day * DAY_US + number * step_us,
            "height": kind + (identity * 7919 % 1000) / 1000,
            "width": (identity * 104_729 % 1000) / 10,
            "colour": ("red", "green", "blue")[identity % 3],
            "kind": kind,
        }
        yield json.dumps(row).encode()


def until(condition: Callable[[], bool], costs: Costs) -> None:
    """Wait until a condition holds, and look at processes meanwhile. Raises TimeoutError."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"nothing came of it for {PATIENCE_S:.0f} s")
        costs.look()
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
