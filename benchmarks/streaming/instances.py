"""Several instances of ingestion over twelve partitions: what a row costs, however many share the work.

`python -m benchmarks.streaming.instances BROKER TOPIC SHAPE GROUP INSTANCE` is one of them: it begins at the first line
that it reads, answers each with what it has handled, committed and used since its first records came, and ends with
its input.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from headrace_ingestion.settings import Settings
from headrace_local.launcher import Platform
from headrace_runtime.kafka import Admin
from headrace_runtime.process.service import settle

from benchmarks import figures, peers
from benchmarks.streaming.ours import TIMEOUT_S, Loop
from benchmarks.streaming.records import produce
from benchmarks.streaming.shapes import SHAPES

PARTITIONS: Final = 12
COUNTS: Final = (1, 2, 4)
SHAPE: Final = "8 fields"
_LOOK_EVERY_S: Final = 0.5


def run(platform: Platform, _folder: Path, rounds: int) -> figures.Measured:
    """Return a table with a line for each number of instances."""
    broker, topic = platform.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}"
    settings = Settings.model_validate({"kafka_bootstrap_servers": broker, "metrics_address": ""})
    with Admin(settings, "benchmarks") as admin:
        admin.ensure_topic(topic, PARTITIONS)
        admin.ensure_record_topics(topic, PARTITIONS)
    produce(broker, topic, SHAPES[SHAPE], PARTITIONS)
    found: dict[int, list[float]] = {count: [] for count in COUNTS}
    for number in range(rounds):
        for count in COUNTS:
            found[count].append(_pass([broker, topic, SHAPE, f"{topic}.{number}.{count}"], count))
    lines = [
        [str(count), figures.spread([value * 1e6 for value in done], 2), figures.share(done, found[1])]
        for count, done in found.items()
    ]
    head = [f"instances over {PARTITIONS} partitions", "CPU for a row (us)", "of one instance's"]
    told = {str(count): [round(value * 1e6, 3) for value in done] for count, done in found.items()}
    return figures.Measured(figures.table(head, lines), told)


def _pass(arguments: Sequence[str], count: int) -> float:
    """Return the seconds of CPU for a row of all instances together."""
    command = [sys.executable, "-m", "benchmarks.streaming.instances", *arguments]
    rows = SHAPES[SHAPE].rows
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=peers.ROOT
                )
            )
            for number in range(count)
        ]
        for each in started:  # ready
            assert each.stdout is not None
            each.stdout.readline()
        deadline_s, told = time.monotonic() + TIMEOUT_S, _asked(started)
        while sum(each["committed"] for each in told) < rows:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"of {rows} records, the instances took {told} after {TIMEOUT_S:.0f} s")
            time.sleep(_LOOK_EVERY_S)
            told = _asked(started)
        for each in started:
            assert each.stdin is not None
            each.stdin.close()
    return sum(float(each["cpu_s"]) for each in told) / sum(int(each["committed"]) for each in told)


def _asked(started: Sequence[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    for each in started:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    return [json.loads(each.stdout.readline()) for each in started if each.stdout is not None]


def main(broker: str, topic: str, name: str, group: str, instance: str) -> None:
    """Take part until the input ends."""
    ours = Loop(broker, topic, name, group, instance)
    settle()
    print("ready", flush=True)
    committed = 0
    for number, _ in enumerate(sys.stdin):
        if number == 0:
            ours.loop.start()
        elif ours.handled > committed:
            committed = ours.committed
        # To join a group and to connect costs as much as tens of thousands of rows, and is done once.
        used_s = time.process_time() - ours.first_cpu_s if ours.first_cpu_s else 0.0
        print(json.dumps({"handled": ours.handled, "committed": committed, "cpu_s": used_s}), flush=True)
    ours.loop.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
